import { formatMoney } from '../kernel/money.ts';
import { periodOf } from '../kernel/period.ts';
import type { Adjustment } from './adjustments.ts';
import type { InvoiceLine } from './document.ts';
import { INVOICE_STYLE } from './html-style.ts';
import type { CreditNote, Invoice } from './rows.ts';

/** Markup that is safe to put into a page: {@link html} alone makes it, and escapes everything that is not. */
class Markup {
  readonly text: string;

  constructor(text: string) {
    this.text = text;
  }
}

type Part = string | bigint | Markup | readonly Markup[];

const ENTITIES: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&#39;',
};

function escaped(text: string): string {
  return text.replace(/[&<>"']/g, (character) => ENTITIES[character] ?? '');
}

function html(texts: TemplateStringsArray, ...parts: readonly Part[]): Markup {
  const rendered = texts.map((text, index) => {
    const part = parts[index];
    if (part === undefined) return text;
    if (part instanceof Markup) return text + part.text;
    if (typeof part === 'string' || typeof part === 'bigint') return text + escaped(String(part));
    return text + part.map((markup) => markup.text).join('');
  });
  return new Markup(rendered.join(''));
}

const NOTHING = html``;

/** The style sheet as it stands in the page; it is a constant of the program. */
const STYLE = new Markup(INVOICE_STYLE);

/** An invoice as one page that needs nothing else, for a screen and for a printer. Times are in UTC. */
export function renderInvoice(invoice: Invoice): string {
  const { document, state } = invoice;
  const { currency } = document;
  const title = invoice.number ?? `Draft ${periodOf(document.period.start).label}`;
  const page = html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>${title}</title>
<style>${STYLE}</style>
</head>
<body>
<div class="head">
<div><h1>Invoice ${title}</h1><span class="state">${state}</span></div>
<dl>
${issuer(invoice)}<dt>Customer</dt><dd>${invoice.customerName}<br><span class="id">${document.tenantId}</span></dd>
<dt>Period</dt><dd>${day(document.period.start)} to ${day(lastDay(document.period.end))} (UTC)</dd>
<dt>Currency</dt><dd>${currency}</dd>
${dates(invoice)}
</dl>
</div>
<h2>Charges</h2>
<table>
<thead><tr><th>For</th><th>Class</th><th class="n">Requests</th><th class="n">Input</th><th class="n">Cached</th><th class="n">Output</th><th class="n">Usage</th><th class="n">Royalty</th><th class="n">${currency}</th></tr></thead>
<tbody>
${document.lines.map((line) => lineRow(line, invoice.names))}
</tbody>
<tfoot><tr><td colspan="8">Charges</td><td class="n">${formatMoney(document.chargesNano)}</td></tr></tfoot>
</table>
<p class="note">A request that blends adapters is in the line of each of them, with all its tokens and its share of the price.</p>
<h2>Total</h2>
<table>
<tbody>
<tr><td>Charges</td><td class="n">${formatMoney(document.chargesNano)}</td></tr>
${document.adjustments.map((adjustment) => adjustmentRow(adjustment, currency))}
</tbody>
<tfoot><tr><td>Total</td><td class="n">${formatMoney(document.totalNano)} ${currency}</td></tr></tfoot>
</table>
${settlement(invoice)}
${openNote(invoice)}${creditNotes(invoice)}
<footer>Charges were taken from the balance as the requests ended. SHA-256 of the document: <span class="id">${invoice.sha256}</span></footer>
</body>
</html>
`;
  return page.text;
}

function issuer({ issuer: text }: Invoice): Markup {
  if (text === null) return NOTHING;
  const lines = text.split('\n').map((line, index) => (index === 0 ? html`${line}` : html`<br>${line}`));
  return html`<dt>From</dt><dd>${lines}</dd>
`;
}

/** How the total was paid, and what is to be paid yet. */
function settlement({ document, prepaidNano, dueNano, state }: Invoice): Markup {
  if (state === 'VOID')
    return html`<p class="note">This invoice was taken back. Nothing is due on it.</p>
`;
  return html`<h2>Payment</h2>
<table>
<tbody>
<tr><td>Paid from the balance</td><td class="n">${formatMoney(prepaidNano)}</td></tr>
</tbody>
<tfoot><tr><td>Amount due</td><td class="n">${formatMoney(dueNano)} ${document.currency}</td></tr></tfoot>
</table>
`;
}

function dates(invoice: Invoice): readonly Markup[] {
  const { finalisedAt, paidAt, voidedAt, paymentReference } = invoice;
  const named = [
    ['Date', finalisedAt],
    ['Paid', paidAt],
    ['Void since', voidedAt],
  ] as const;
  const rows = named.flatMap(([name, at]) =>
    at === null ? [] : [html`<dt>${name}</dt><dd>${day(at)}</dd>\n`],
  );
  if (paymentReference === null) return rows;
  return [...rows, html`<dt>Payment</dt><dd>${paymentReference}</dd>\n`];
}

function lineRow(line: InvoiceLine, names: Invoice['names']): Markup {
  const backbone = names[line.backboneDigest] ?? line.backboneDigest;
  const version = line.adapterVersionId;
  const name = version === null ? html`${backbone}` : html`${names[version] ?? version}, on ${backbone}`;
  const royalty = line.royaltyVersionId === null ? NOTHING : html`<br>royalty ${line.royaltyVersionId}`;
  return html`<tr><td>${name}<div class="id">price ${line.priceVersionId}${royalty}</div></td><td>${line.priority}</td><td class="n">${line.requests}</td><td class="n">${line.inputTokens}</td><td class="n">${line.cachedTokens}</td><td class="n">${line.outputTokens}</td><td class="n">${formatMoney(line.totalNano - line.royaltyNano)}</td><td class="n">${formatMoney(line.royaltyNano)}</td><td class="n">${formatMoney(line.totalNano)}</td></tr>
`;
}

function adjustmentRow(adjustment: Adjustment, currency: string): Markup {
  return html`<tr><td>${describe(adjustment, currency)}</td><td class="n">${formatMoney(adjustment.amountNano)}</td></tr>
`;
}

function describe(adjustment: Adjustment, currency: string): string {
  switch (adjustment.kind) {
    case 'ALLOWANCE':
      return 'Free allowance';
    case 'TIER': {
      // Parts per million with four decimals less are percent.
      const percent = formatMoney(adjustment.discountPpm * 100_000n);
      const basis = formatMoney(adjustment.basisNano);
      return `Volume discount from ${formatMoney(adjustment.fromNano)} ${currency}: ${percent} % of ${basis}`;
    }
    case 'MINIMUM':
      return 'To the minimum charge';
  }
}

function openNote({ openNano, document }: Invoice): Markup {
  if (openNano === 0n) return NOTHING;
  return html`<p class="note">Of the minimum charge, ${formatMoney(openNano)} ${document.currency} wait until the balance has room for them.</p>
`;
}

function creditNotes({ creditNotes: notes, document }: Invoice): Markup {
  if (notes.length === 0) return NOTHING;
  const rest = notes.reduce((left, { amountNano }) => left - amountNano, document.totalNano);
  return html`<h2>Credit notes</h2>
<table>
<thead><tr><th>Number</th><th>Date</th><th>Reason</th><th class="n">${document.currency}</th></tr></thead>
<tbody>
${notes.map(creditNoteRow)}
</tbody>
<tfoot><tr><td colspan="3">Total less credit notes</td><td class="n">${formatMoney(rest)}</td></tr></tfoot>
</table>
`;
}

function creditNoteRow(note: CreditNote): Markup {
  return html`<tr><td>${note.number}</td><td>${day(note.createdAt)}</td><td>${note.reason}</td><td class="n">${formatMoney(-note.amountNano)}</td></tr>
`;
}

function day(at: Date): string {
  return at.toISOString().slice(0, 10);
}

/** The day before the one on which a period has ended. */
function lastDay(end: Date): Date {
  return new Date(end.getTime() - 1);
}
