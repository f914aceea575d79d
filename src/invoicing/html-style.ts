/** The style of a bill, on a screen and on paper. It fetches nothing. */
export const INVOICE_STYLE = `
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 62rem; padding: 2rem; font: 14px/1.45 system-ui, sans-serif; color: #111; background: #fff; }
h1 { font-size: 1.6rem; margin: 0 0 .25rem; }
h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; }
.state { display: inline-block; padding: .1rem .6rem; border: 1px solid; border-radius: .3rem; font-size: .8rem; letter-spacing: .05em; }
.head { display: flex; justify-content: space-between; gap: 2rem; flex-wrap: wrap; }
dl { display: grid; grid-template-columns: auto 1fr; gap: .15rem 1rem; margin: 1rem 0 0; }
dt { color: #555; }
dd { margin: 0; overflow-wrap: anywhere; }
table { width: 100%; border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .4rem; border-bottom: 1px solid #ddd; text-align: left; vertical-align: top; }
th { border-bottom: 1px solid #111; font-weight: 600; }
.n { text-align: right; white-space: nowrap; }
.id { color: #555; font: 11px/1.3 ui-monospace, monospace; overflow-wrap: anywhere; }
tfoot td { border-bottom: 0; border-top: 2px solid #111; font-weight: 700; }
.note, footer { color: #555; font-size: .85rem; }
footer { margin-top: 2rem; overflow-wrap: anywhere; }
@page { size: A4; margin: 16mm 14mm; }
@media print {
  body { max-width: none; padding: 0; font-size: 9.5pt; }
  thead { display: table-header-group; }
  tfoot { display: table-row-group; }
  tr, dl, footer { break-inside: avoid; }
  h2 { break-after: avoid; }
}
`;
