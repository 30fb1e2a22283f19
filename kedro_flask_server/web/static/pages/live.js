// Asks for what may have changed while the page is seen, and says when nobody answers.
'use strict';

(() => {
  const EVERY_MS = 3000;
  // Where nothing has changed for a minute and nothing runs, every third time is enough.
  const QUIET_AFTER = 20;
  const QUIET_SHARE = 3;
  let ticks = 0;
  let unchanged = 0;
  let hasStream = false;
  let failedAt = null;

  function show() {
    const note = document.getElementById('unreachable');
    if (failedAt && note.hidden) {
      note.querySelector('[data-clock]').textContent = failedAt.toLocaleTimeString();
    }
    note.hidden = !failedAt;
  }

  function failed() {
    failedAt = failedAt || new Date();
    show();
  }

  function answered() {
    failedAt = null;
    show();
  }

  function refresh() {
    for (const element of document.querySelectorAll('[data-live]')) {
      if (element.dataset.live !== 'stream' || !hasStream) htmx.trigger(element, 'refresh');
    }
  }

  document.addEventListener('htmx:config:request', ({detail: {ctx}}) => {
    const {etag} = ctx.sourceElement.dataset;
    if (etag) ctx.request.headers['If-None-Match'] = `"${etag}"`;
  });
  function isQuiet() {
    return unchanged >= QUIET_AFTER && !document.querySelector('main .state.running');
  }

  document.addEventListener('htmx:after:request', ({detail: {ctx}}) => {
    unchanged = ctx.response.status === 304 ? unchanged + 1 : 0;
    if (ctx.response.status === 404 && ctx.sourceElement.matches('[data-live]')) location.reload();
    if (ctx.response.status >= 500) failed();
    else answered();
  });
  document.addEventListener('htmx:error', failed);
  document.addEventListener('htmx:sse:after:connection', () => {
    hasStream = true;
    answered();
  });
  for (const name of ['htmx:sse:close', 'htmx:sse:error']) {
    document.addEventListener(name, () => {
      hasStream = false;
    });
  }
  document.addEventListener('click', ({target}) => {
    if (target.closest('[data-retry]')) refresh();
  });
  document.addEventListener('visibilitychange', () => {
    unchanged = 0;
    if (!document.hidden) refresh();
  });
  setInterval(() => {
    ticks += 1;
    if (!document.hidden && (!isQuiet() || ticks % QUIET_SHARE === 0)) refresh();
  }, EVERY_MS);
})();
