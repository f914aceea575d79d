/** A place of a line, with the range of its rounds where there were several. */
export interface PlotPoint {
  readonly x: number;
  readonly y: number;
  readonly least?: number;
  readonly most?: number;
}

export interface PlotSeries {
  readonly name: string;
  readonly color: string;
  /** Solid for what was measured, dashed for what was not. */
  readonly dashed?: boolean;
  readonly points: readonly PlotPoint[];
}

export interface Plot {
  readonly title: string;
  readonly xLabel: string;
  readonly yLabel: string;
  readonly yScale: 'linear' | 'log';
  readonly series: readonly PlotSeries[];
}

const WIDTH = 800;
const AREA = { left: 76, right: 540, top: 44, bottom: 372 };
const HEIGHT = 430;
const LEGEND = { x: 560, y: 56, line: 22 };
const INK = '#24292f';
const GRID = '#d8dee4';

/** Draws lines over a logarithmic axis. The background is white, so that it can be read in any theme. */
export function svgPlot(plot: Plot): string {
  const shown = plot.series.filter(({ points }) => points.length > 0);
  const points = shown.flatMap((series) => series.points);
  const xs = points.map(({ x }) => x);
  const ys = points.flatMap(({ y, least = y, most = y }) => [y, least, most]).filter((y) => y > 0);
  const x = axis('log', xs, AREA.left, AREA.right);
  const y = axis(plot.yScale, ys, AREA.bottom, AREA.top);
  const parts = [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" width="${WIDTH}" height="${HEIGHT}" font-family="system-ui, sans-serif" font-size="13" fill="${INK}" role="img">`,
    `<title>${escaped(plot.title)}</title>`,
    `<rect width="${WIDTH}" height="${HEIGHT}" rx="6" fill="#ffffff"/>`,
    text(AREA.left, 26, plot.title, 'font-size="15" font-weight="600"'),
    ...y.ticks.flatMap((value) => [
      line(AREA.left, y.at(value), AREA.right, y.at(value), GRID),
      text(AREA.left - 8, y.at(value) + 4, tickLabel(value), 'text-anchor="end"'),
    ]),
    ...x.ticks.flatMap((value) => [
      line(x.at(value), AREA.top, x.at(value), AREA.bottom, GRID),
      text(x.at(value), AREA.bottom + 20, tickLabel(value), 'text-anchor="middle"'),
    ]),
    text((AREA.left + AREA.right) / 2, HEIGHT - 14, plot.xLabel, 'text-anchor="middle"'),
    text(
      0,
      0,
      plot.yLabel,
      `text-anchor="middle" transform="translate(18 ${(AREA.top + AREA.bottom) / 2}) rotate(-90)"`,
    ),
    ...shown.flatMap((series) => drawSeries(series, x.at, y.at)),
    ...shown.flatMap((series, index) => drawLegend(series, LEGEND.y + index * LEGEND.line)),
    '</svg>',
  ];
  return `${parts.join('\n')}\n`;
}

function drawSeries(
  series: PlotSeries,
  x: (value: number) => number,
  y: (value: number) => number,
): string[] {
  const path = series.points.map((point) => `${round(x(point.x))},${round(y(point.y))}`).join(' ');
  const ranges = series.points.flatMap(({ x: at, least, most }) =>
    least === undefined || most === undefined || least === most
      ? []
      : [line(x(at), y(least), x(at), y(most), series.color, 'stroke-width="1.5" stroke-opacity="0.6"')],
  );
  const markers = series.dashed
    ? []
    : series.points.map((point) => dot(x(point.x), y(point.y), series.color));
  return [
    ...ranges,
    `<polyline points="${path}" fill="none" stroke="${series.color}" stroke-width="2"${dash(series)}/>`,
    ...markers,
  ];
}

function drawLegend(series: PlotSeries, at: number): string[] {
  const { x } = LEGEND;
  return [
    line(x, at - 4, x + 26, at - 4, series.color, `stroke-width="2"${dash(series)}`),
    ...(series.dashed ? [] : [dot(x + 13, at - 4, series.color)]),
    text(x + 34, at, series.name, 'font-size="12"'),
  ];
}

interface Axis {
  readonly at: (value: number) => number;
  readonly ticks: readonly number[];
}

/** An axis from the first place to the last; a linear one begins at zero, a logarithmic one at a round number. */
function axis(scale: Plot['yScale'], values: readonly number[], from: number, to: number): Axis {
  const most = Math.max(...values, Number.MIN_VALUE);
  if (scale === 'linear') {
    const step = niceStep(most / 5);
    const end = Math.ceil(most / step) * step;
    const ticks = Array.from({ length: Math.round(end / step) + 1 }, (_, index) => index * step);
    return { at: (value) => from + (value / end) * (to - from), ticks };
  }
  const low = Math.floor(Math.log10(Math.min(...values, most)) + 1e-9);
  const high = Math.max(low + 1, Math.ceil(Math.log10(most) - 1e-9));
  const ticks: number[] = [];
  for (let decade = low; decade <= high; decade++) {
    // Few decades have room for more than one line each.
    const within = high - low <= 2 && decade < high ? [1, 2, 5] : [1];
    ticks.push(...within.map((digit) => digit * 10 ** decade));
  }
  return { at: (value) => from + ((Math.log10(value) - low) / (high - low)) * (to - from), ticks };
}

/** The smallest of 1, 2 and 5 times a power of ten that is no less. */
function niceStep(least: number): number {
  const power = 10 ** Math.floor(Math.log10(least));
  return ([1, 2, 5].find((digit) => digit * power >= least) ?? 10) * power;
}

function tickLabel(value: number): string {
  return value.toLocaleString('en-US', { maximumSignificantDigits: 3 });
}

function line(x1: number, y1: number, x2: number, y2: number, color: string, more = ''): string {
  return `<line x1="${round(x1)}" y1="${round(y1)}" x2="${round(x2)}" y2="${round(y2)}" stroke="${color}" ${more}/>`;
}

function dot(x: number, y: number, color: string): string {
  return `<circle cx="${round(x)}" cy="${round(y)}" r="3.5" fill="${color}"/>`;
}

function text(x: number, y: number, content: string, more: string): string {
  return `<text x="${round(x)}" y="${round(y)}" ${more}>${escaped(content)}</text>`;
}

function dash({ dashed }: PlotSeries): string {
  return dashed ? ' stroke-dasharray="6 4"' : '';
}

function round(value: number): number {
  return Math.round(value * 10) / 10;
}

function escaped(content: string): string {
  return content
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;')
    .replaceAll('"', '&quot;');
}
