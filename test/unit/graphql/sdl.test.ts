import { describe, expect, test } from 'vitest';
import {
  type GraphQLField,
  type GraphQLNamedType,
  getNamedType,
  isEnumType,
  isInputObjectType,
  isInterfaceType,
  isIntrospectionType,
  isNonNullType,
  isObjectType,
  isSpecifiedScalarType,
  validateSchema,
} from '../../../src/graphql/graphql-js.ts';
import { NODE_TYPES } from '../../../src/graphql/ids.ts';
import { createSchema } from '../../../src/graphql/schema.ts';

const schema = createSchema();
const own = Object.values(schema.getTypeMap()).filter(
  (type) => !isIntrospectionType(type) && !isSpecifiedScalarType(type),
);

function fieldsOf(type: GraphQLNamedType): GraphQLField<unknown, unknown>[] {
  return isObjectType(type) || isInterfaceType(type) ? Object.values(type.getFields()) : [];
}

function* described(): Generator<[string, string | null | undefined]> {
  for (const type of own) {
    yield [type.name, type.description];
    if (isEnumType(type))
      for (const value of type.getValues()) yield [`${type.name}.${value.name}`, value.description];
    if (isInputObjectType(type)) {
      for (const field of Object.values(type.getFields()))
        yield [`${type.name}.${field.name}`, field.description];
    }
    for (const field of fieldsOf(type)) {
      yield [`${type.name}.${field.name}`, field.description];
      for (const arg of field.args) yield [`${type.name}.${field.name}(${arg.name})`, arg.description];
    }
  }
}

describe('the schema', () => {
  test('is valid', () => {
    expect(validateSchema(schema)).toEqual([]);
  });

  test('describes every type, field, argument, enum value and input field, in sentences', () => {
    const wanting = [...described()].filter(([, text]) => !/^[A-Z`].*\.$/s.test(text?.trim() ?? ''));
    expect(wanting).toEqual([]);
  });

  test('has user errors in the payload of every mutation', () => {
    for (const field of fieldsOf(schema.getMutationType() ?? own[0] ?? expect.fail())) {
      const payload = getNamedType(field.type);
      expect(isObjectType(payload) && String(payload.getFields().userErrors?.type), field.name).toBe(
        '[UserError!]!',
      );
      expect(isNonNullType(field.type), field.name).toBe(true);
    }
  });

  test('takes an idempotency key wherever something is created or run', () => {
    const creating = [
      'CreateTenantInput',
      'CreateApiKeyInput',
      'RotateApiKeyInput',
      'AddMemberInput',
      'OpenAdapterUploadInput',
      'FinalizeAdapterUploadInput',
      'InferInput',
      'SetPriceInput',
      'SetRoyaltyInput',
      'ProposeSplitInput',
      'TopUpInput',
      'AdjustBalanceInput',
      'SetCreditLimitInput',
      'SetBudgetInput',
      'RemoveBudgetInput',
      'SetBillingTermsInput',
      'ClosePeriodInput',
      'ClosePeriodsInput',
      'FinaliseInvoiceInput',
      'MarkInvoicePaidInput',
      'VoidInvoiceInput',
      'CreateCreditNoteInput',
      'CreateExportInput',
      'SetPayoutDestinationInput',
      'FundPayoutsInput',
      'CreatePayoutBatchInput',
      'AdjustEarningsInput',
      'EraseProofsInput',
    ];
    for (const name of creating) {
      const type = schema.getType(name);
      expect(isInputObjectType(type) && String(type.getFields().idempotencyKey?.type), name).toBe('String!');
    }
    // The others must say why they need none: they set a state, so that repeating them changes nothing.
    const setting = [
      'RevokeApiKeyInput',
      'SetAdapterVisibilityInput',
      'RetireAdapterVersionInput',
      'DecideSplitInput',
      'SetMemberRoleInput',
      'RemoveMemberInput',
      'SetTenantQuotasInput',
      'SetTenantStateInput',
      'DeleteExportInput',
      'PayoutBatchInput',
      'ImportPayoutResultsInput',
      'ResolveUnknownPayoutInput',
    ];
    const inputs = fieldsOf(schema.getMutationType() ?? expect.fail()).map(
      (field) => getNamedType(field.args[0]?.type ?? field.type).name,
    );
    expect(new Set(inputs)).toEqual(new Set([...creating, ...setting]));
  });

  test('pages by Relay connections', () => {
    for (const type of own.filter(({ name }) => name.endsWith('Connection'))) {
      const stem = type.name.slice(0, -'Connection'.length);
      const shape = Object.fromEntries(fieldsOf(type).map((field) => [field.name, String(field.type)]));
      expect(shape).toEqual({ edges: `[${stem}Edge!]!`, pageInfo: 'PageInfo!' });
      const edge = schema.getType(`${stem}Edge`);
      expect(isObjectType(edge) && fieldsOf(edge).map((field) => `${field.name}: ${field.type}`)).toEqual([
        'cursor: String!',
        `node: ${stem}!`,
      ]);
    }
  });

  test('gives a global id to exactly the types that the id codec knows', () => {
    const node = schema.getType('Node');
    const types = isInterfaceType(node) ? schema.getPossibleTypes(node).map(({ name }) => name) : [];
    expect(types.sort()).toEqual([...NODE_TYPES].sort());
  });
});
