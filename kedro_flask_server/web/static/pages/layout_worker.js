// Lays a graph out, away from the page that shows it.
'use strict';

importScripts('../vendor/dagre/dagre.min.js');

onmessage = ({data: {nodes, edges, number}}) => {
  const graph = new dagre.graphlib.Graph();
  graph.setGraph({rankdir: 'LR', nodesep: 14, ranksep: 46, marginx: 12, marginy: 12});
  graph.setDefaultEdgeLabel(() => ({}));
  for (const node of nodes) graph.setNode(node.id, {width: node.width, height: node.height});
  for (const [from, to] of edges) graph.setEdge(from, to);
  dagre.layout(graph);
  const {width, height} = graph.graph();
  postMessage({
    number,
    layout: {
      width: Math.ceil(width),
      height: Math.ceil(height),
      nodes: Object.fromEntries(graph.nodes().map((id) => [id, [graph.node(id).x, graph.node(id).y]])),
      edges: graph.edges().map((edge) => graph.edge(edge).points.map(({x, y}) => [x, y])),
    },
  });
};
