// The step whose samples are shown, and where the matrix is scrolled, stay as they are while new samples come.
const kept = {run: '', step: null, left: 0, top: 0, open: true};
const viewer = () => element.querySelector('.sd-viewer');
const steps = () => viewer().dataset.steps.split(' ').map(Number);
const place = () => kept.step === null ? steps().length - 1 : Math.max(0, steps().findLastIndex(step => step <= kept.step));

function set(node, name, value) {
  if (node && node.getAttribute(name) !== value) node.setAttribute(name, value);
}

function show() {
  const root = viewer();
  if (!root) return;
  const chosen = place(), slider = root.querySelector('input[type=range]'), said = `step ${steps()[chosen]}${steps()[chosen] ? '' : ', the base'}`;
  if (slider.value !== String(chosen)) slider.value = String(chosen);
  set(slider, 'aria-valuetext', said);
  const output = root.querySelector('output');
  if (output.dataset.said !== said) {  // what it shows may be its translation
    output.dataset.said = said;
    output.textContent = said;
  }
  root.querySelectorAll('[data-place]').forEach(item => {
    const hidden = item.dataset.place !== String(chosen);
    if (item.hidden !== hidden) item.hidden = hidden;
  });
  root.querySelectorAll('[data-show]').forEach(head => set(head, 'aria-pressed', String(head.dataset.show === String(chosen))));
  set(root.querySelector('[data-newest]'), 'aria-pressed', String(kept.step === null));
}

function go(index) {
  const all = steps(), at = Math.min(Math.max(index, 0), all.length - 1);
  kept.step = at === all.length - 1 ? null : all[at];
  show();
}

element.addEventListener('input', event => { if (event.target.matches('.sd-scrub input')) go(Number(event.target.value)); });
element.addEventListener('click', event => {
  const button = event.target.closest('button');
  if (!button) return;
  if (button.dataset.move) go(place() + Number(button.dataset.move));
  else if (button.dataset.show) go(Number(button.dataset.show));
  else if ('newest' in button.dataset) go(Infinity);
});
element.addEventListener('scroll', event => {
  if (event.target.matches?.('.sd-scroll')) { kept.left = event.target.scrollLeft; kept.top = event.target.scrollTop; }
}, true);
element.addEventListener('toggle', event => { if (event.target.matches?.('.sd-viewer details')) kept.open = event.target.open; }, true);

// Gradio puts a new value into the nodes that are there, so the same node may say something else.
let drawn = null, said = '';
function renew() {
  const root = viewer();
  if (!root) return;
  if (root.dataset.run !== kept.run) Object.assign(kept, {run: root.dataset.run, step: null, left: 0, top: 0});
  if (root !== drawn || root.dataset.steps !== said) {
    drawn = root;
    said = root.dataset.steps;
    const details = root.querySelector('details'), table = root.querySelector('.sd-scroll');
    if (details) details.open = kept.open;
    if (table) { table.scrollLeft = kept.left; table.scrollTop = kept.top; }
  }
  show();
}
const news = {childList: true, subtree: true, characterData: true, attributes: true, attributeFilter: ['hidden', 'data-run', 'data-steps']};
new MutationObserver(renew).observe(element, news);
renew();
