// What a page asks of one handler goes out in the order in which the visitor asked, the next once the one before was answered: side by side,
// requests come in and are answered in any order on a machine with much to do, and the page would show what was chosen before the last.
(() => {
  const PATIENCE_MS = 10000, HANDLERS = /\/(queue\/join|run\/)/, ask = window.fetch.bind(window), underway = new Map();
  const handlerOf = ({body}) => typeof body === 'string' && JSON.parse(body).fn_index;
  window.fetch = (resource, options) => {
    if (options?.method !== 'POST' || !HANDLERS.test(resource)) return ask(resource, options);
    const handler = handlerOf(options), before = underway.get(handler);
    const answer = before ? before.then(() => ask(resource, options)) : ask(resource, options);
    const settled = answer.catch(() => {}).then(() => underway.get(handler) === over && underway.delete(handler));
    const over = Promise.race([settled, new Promise(resolve => setTimeout(resolve, PATIENCE_MS))]);
    underway.set(handler, over);
    return answer;
  };
})();
