// Shows what a form would run, and takes nodes from the graph.
'use strict';

(() => {
  const form = document.getElementById('run-form');
  const planner = document.getElementById('planner');
  if (!form) return;
  let timer;

  // A change chooses at once.
  form.querySelector('[name="choose"]').hidden = true;

  function plan() {
    clearTimeout(timer);
    timer = setTimeout(() => htmx.trigger(planner, 'refresh'), 300);
  }

  function markChanged() {
    for (const field of form.querySelectorAll('[data-now]')) {
      const isChanged = field.value !== field.dataset.now;
      field.parentElement.classList.toggle('changed', isChanged);
      field.parentElement.querySelector('[data-configured]').hidden = !isChanged;
    }
  }

  form.addEventListener('input', ({target}) => {
    if (target.name === 'pipeline') {
      form.querySelector('[name="choose"]').click();
      return;
    }
    markChanged();
    plan();
  });
  if (document.querySelector('[data-ask]')) plan();
  form.addEventListener('click', (event) => {
    if (event.target.closest('[data-check]')) {
      event.preventDefault();
      plan();
    }
  });
  form.addEventListener('graph:pick', (event) => {
    const field = form.elements[form.elements.pick.value];
    if (!field) return;
    event.preventDefault();
    const lines = field.value.split('\n').filter((line) => line.trim());
    const at = lines.indexOf(event.detail);
    if (at < 0) lines.push(event.detail);
    else lines.splice(at, 1);
    field.value = lines.join('\n');
    field.dispatchEvent(new Event('input', {bubbles: true}));
  });
})();
