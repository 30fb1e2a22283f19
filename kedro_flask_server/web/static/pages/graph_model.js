// Which nodes of a pipeline are seen: a namespace that is not open stands for all that is in it.
'use strict';

/* exported graphModel */

const graphModel = (() => {
  function above(namespace) {
    const parts = namespace ? namespace.split('.') : [];
    return parts.map((_, at) => parts.slice(0, at + 1).join('.'));
  }

  /** Return all namespaces of a graph. */
  function namespaces(graph) {
    return [...new Set(graph.nodes.flatMap((node) => above(node.namespace)))];
  }

  /** Return the namespaces that are open at first. */
  function openAtFirst(graph) {
    return new Set(graph.nodes.length > graph.most ? [] : namespaces(graph));
  }

  /**
   * Return what is seen of a graph.
   *
   * @param {object} graph Its nodes, each with name, label, namespace, inputs and outputs.
   * @param {Set<string>} open The namespaces that are open.
   * @param {boolean} hasDatasets Whether datasets are seen, too.
   * @returns {{nodes: object[], edges: string[][]}} What is drawn.
   */
  function visible(graph, open, hasDatasets) {
    const nodes = new Map();
    const standsFor = new Map();
    for (const node of graph.nodes) {
      const closed = above(node.namespace).find((each) => !open.has(each));
      const id = closed ? `namespace:${closed}` : `node:${node.name}`;
      standsFor.set(node.name, id);
      if (!nodes.has(id)) {
        const label = closed || (node.namespace ? `${node.namespace}.${node.label}` : node.label);
        nodes.set(id, {id, label, kind: closed ? 'namespace' : 'task', name: closed || node.name, of: []});
      }
      nodes.get(id).of.push(node.name);
    }
    const makers = new Map();
    for (const node of graph.nodes) {
      for (const name of node.outputs) makers.set(name, standsFor.get(node.name));
    }
    const edges = new Map();
    const join = (from, to) => {
      if (from && to && from !== to) edges.set(`${from}\n${to}`, [from, to]);
    };
    const dataset = (name) => {
      const id = `dataset:${name}`;
      if (!nodes.has(id)) nodes.set(id, {id, label: name, kind: 'dataset', name, of: []});
      return id;
    };
    for (const node of graph.nodes) {
      const here = standsFor.get(node.name);
      for (const name of node.inputs) {
        if (hasDatasets && makers.get(name) !== here) join(dataset(name), here);
        else if (!hasDatasets) join(makers.get(name), here);
      }
      for (const name of hasDatasets ? node.outputs : []) {
        const isInside = graph.nodes.every((each) => !each.inputs.includes(name) || standsFor.get(each.name) === here);
        const isTaken = graph.nodes.some((each) => each.inputs.includes(name));
        if (!(isInside && isTaken)) join(here, dataset(name));
      }
    }
    return {nodes: [...nodes.values()], edges: [...edges.values()]};
  }

  return {namespaces, openAtFirst, visible};
})();
