// Gradio 6.31 counts the seconds of what is pending anew for every frame, and never ends the count for the start of a page: sixty frames a
// second that show nothing. Ten times a second is all that its clocks can show.
(() => {
  const COUNTS = /performance\.now\(\)\s*-.{1,40}\)\s*\/\s*1e3/, COUNT_MS = 100;
  const frame = window.requestAnimationFrame.bind(window);
  const count = callback => setTimeout(() => callback(performance.now()), COUNT_MS);
  window.requestAnimationFrame = callback => (COUNTS.test(callback) ? count : frame)(callback);
})();
