import type { Tone } from "../state/words";

/** A member in a picture. */
export interface Node {
  id: string;
  /** Under the name: the role, in words. */
  role: string;
  detail: string;
  /** Last line: for example whether it may take over. */
  note: string;
  tone: Tone;
  /** 0 is the upper row. */
  row: number;
}

/** A link between two members. */
export interface Edge {
  from: string;
  to: string;
  label: string;
  up: boolean;
}

const WIDTH = 172;
const HEIGHT = 94;
const GAP = 28;
const FALL = 72;

/** Where nodes are: rows from above, each in the middle. */
export function place(nodes: Node[]): { at: Map<string, { x: number; y: number }>; width: number; height: number } {
  const rows = [...new Set(nodes.map((node) => node.row))].sort((a, b) => a - b);
  const sizes = rows.map((row) => nodes.filter((node) => node.row === row).length);
  const widest = Math.max(1, ...sizes);
  const width = widest * WIDTH + (widest - 1) * GAP;
  const at = new Map<string, { x: number; y: number }>();
  rows.forEach((row, line) => {
    const own = nodes.filter((node) => node.row === row);
    const begin = (width - own.length * WIDTH - (own.length - 1) * GAP) / 2;
    own.forEach((node, index) => at.set(node.id, { x: begin + index * (WIDTH + GAP), y: line * (HEIGHT + FALL) }));
  });
  return { at, width, height: Math.max(1, rows.length) * HEIGHT + Math.max(0, rows.length - 1) * FALL };
}

/** Few nodes with exact meaning: who follows whom, how far behind. A click chooses a member. */
export function Topology(props: {
  label: string;
  nodes: Node[];
  edges: Edge[];
  selected: string | undefined;
  onSelect: (id: string) => void;
}) {
  const { at, width, height } = place(props.nodes);
  return (
    <div className="topology" role="group" aria-label={props.label}>
      <div style={{ width: width + 8, height: height + 8 }}>
        <svg viewBox={`-4 -4 ${width + 8} ${height + 8}`} width={width + 8} height={height + 8} aria-hidden="true">
          <defs>
            <marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">
              <path d="M0 0l8 4-8 4z" className="edge-head" />
            </marker>
          </defs>
          {props.edges.map((edge) => {
            const from = at.get(edge.from);
            const to = at.get(edge.to);
            if (!from || !to) return null;
            const [x1, y1, x2, y2] = [from.x + WIDTH / 2, from.y + HEIGHT, to.x + WIDTH / 2, to.y - 3];
            const middle = (y1 + y2) / 2;
            return (
              <g key={`${edge.from} ${edge.to}`} className="edge" data-up={edge.up}>
                <path
                  d={`M${x1} ${y1}C${x1} ${middle} ${x2} ${middle} ${x2} ${y2}`}
                  fill="none"
                  markerEnd="url(#arrow)"
                />
                <text x={(x1 + x2) / 2} y={middle} textAnchor="middle" dy="4">
                  {edge.label}
                </text>
              </g>
            );
          })}
        </svg>
        {props.nodes.map((node) => {
          const place = at.get(node.id);
          return (
            <button
              key={node.id}
              type="button"
              className="node"
              data-tone={node.tone}
              aria-pressed={props.selected === node.id}
              style={{ left: (place?.x ?? 0) + 4, top: (place?.y ?? 0) + 4, width: WIDTH, height: HEIGHT }}
              onClick={() => props.onSelect(node.id)}
            >
              <strong>{node.id}</strong>
              <span className="node-role">{node.role}</span>
              <span className="dim">{node.detail}</span>
              <span className="dim">{node.note}</span>
            </button>
          );
        })}
      </div>
    </div>
  );
}
