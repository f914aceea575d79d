import type { PartField, RequestField } from './fields.ts';

/** What a reader may know of a receipt: the values of opened fields that their commitments confirm. */
export interface View {
  readonly parts: number;
  request(field: RequestField): string | undefined;
  part(part: number, field: PartField): string | undefined;
}

/** A view of confirmed values by the names of their fields. */
export function viewOf(parts: number, values: ReadonlyMap<string, string>): View {
  return {
    parts,
    request: (field) => values.get(field),
    part: (part, field) => values.get(`part.${part}.${field}`),
  };
}

/** All parts' values of a field, or undefined when one of them is not open. */
export function everyPart(view: View, field: PartField): readonly string[] | undefined {
  const values: string[] = [];
  for (let part = 0; part < view.parts; part++) {
    const value = view.part(part, field);
    if (value === undefined) return undefined;
    values.push(value);
  }
  return values;
}
