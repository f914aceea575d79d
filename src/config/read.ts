import type { Setting } from './setting.ts';

/** Headings of the reference documentation, in order. */
export const SECTIONS = [
  'Server',
  'Data and database',
  'Backbone',
  'Engine',
  'Adapters',
  'Metering',
  'Pricing',
  'Invoices',
  'Payouts',
  'Proofs',
  'Chain',
  'Economics',
  'Exports',
  'Quotas',
  'GraphQL',
  'Logs',
  'Client commands',
] as const;
export type Section = (typeof SECTIONS)[number];

/** Gives a setting's value; one implementation reads an environment, another only takes down what exists. */
export type Read = <T>(section: Section, setting: Setting<T>) => T;
