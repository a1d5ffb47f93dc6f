// Says that the form is to be kept: at its first change at once, and together for those that follow within GAP_MS (see keeping.py).
let waiting, kept = -GAP_MS;

function keep() {
  clearTimeout(waiting);
  waiting = undefined;
  kept = performance.now();
  trigger('keep');
}

window.sdplayKeep = () => {
  if (waiting !== undefined) return;
  const rest = kept + GAP_MS - performance.now();
  if (rest <= 0) keep();
  else waiting = setTimeout(keep, rest);
};

window.addEventListener('pagehide', () => { if (waiting !== undefined) keep(); });
