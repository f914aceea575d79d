import { createHash, createHmac } from 'node:crypto';
import { computeAddress } from 'ethers';
import { describe, expect, test } from 'vitest';
import { commitmentOf, leafOf } from '../../../src/verifier/hashing/body.ts';
import { canonicalJson, digestOf } from '../../../src/verifier/hashing/canonical.ts';
import { isConsistent, rootFromInclusion } from '../../../src/verifier/hashing/merkle.ts';
import { messageDigest, rootMessage, signerOf } from '../../../src/verifier/hashing/signature.ts';
import { at, named, stepsOf, VECTORS, vector, viewed } from './vectors.ts';

test('every kind of case has its file', () => {
  expect([...VECTORS.keys()].toSorted()).toEqual(
    'adapter,batch,blend,epochs,erased,log-1,log-7,log-8,plain,recovered,rotation,ties'.split(','),
  );
});

describe.each([...VECTORS])('%s', (_, given) => {
  const { log, receipts, batches, heads, documents, keys, privateKeys } = given;

  test('the log has the id of its UUID, and the keys their addresses', () => {
    const bytes = Buffer.from(log.uuid.replaceAll('-', ''), 'hex');
    expect(createHash('sha256').update('patchbay:log:v1\0').update(bytes).digest('hex')).toBe(log.id);
    const addresses = privateKeys.map((key, index) => [
      computeAddress(`0x${key}`),
      at(keys, 'keys', index, 'address'),
    ]);
    for (const [computed, listed] of addresses) expect(computed).toBe(listed);
  });

  test('salts, commitments, bodies and leaves', () => {
    for (const { id, secret, fields, body, leaf } of receipts) {
      for (const { index, salt, value, commitment } of fields) {
        const place = Buffer.from([index >> 8, index & 255]);
        const hmac = createHmac('sha256', Buffer.from(secret, 'hex')).update('patchbay:field-salt:v1\0');
        expect(hmac.update(place).digest('hex')).toBe(salt);
        expect(commitmentOf(index, salt, value)).toBe(commitment);
      }
      const commitments = fields.map(({ commitment }) => commitment);
      expect(leafOf({ log: log.id, id, commitments })).toBe(leaf);
      expect(createHash('sha256').update('\0').update(Buffer.from(body, 'hex')).digest('hex')).toBe(leaf);
    }
  });

  test('batches and heads: paths, digests, signatures', () => {
    const signers = privateKeys.map((key) => computeAddress(`0x${key}`));
    const trees = [
      ...batches.map((batch) => ({
        ...{ type: 'ReceiptBatch' as const, tree: batch },
        leaves: batch.receipts.map((place) => receipts[place]?.leaf ?? ''),
      })),
      ...heads.map((head) => ({ type: 'TreeHead' as const, tree: head, leaves: head.leaves })),
    ];
    for (const { type, tree, leaves } of trees) {
      const message = rootMessage(log.id, type, tree);
      expect(messageDigest(message)).toBe(`0x${tree.digest}`);
      expect(signers).toContain(signerOf(message, tree.signature));
      for (const [index, leaf] of leaves.entries()) {
        const size = BigInt(leaves.length);
        expect(rootFromInclusion({ leaf, index: BigInt(index), size, path: tree.paths[index] ?? [] })).toBe(
          tree.root,
        );
      }
    }
  });

  test('documents: canonical form and digest', () => {
    for (const { digest, canonical } of documents) {
      expect(canonicalJson(JSON.parse(canonical))).toBe(canonical);
      expect(digestOf(JSON.parse(canonical))).toBe(digest);
    }
  });

  test('every view is verified, with the list of keys and with a pinned key', () => {
    for (const { document } of given.views) {
      const steps = stepsOf({ receipt: document, keys });
      expect(steps.filter(({ result }) => result === 'false')).toEqual([]);
      expect(named(steps, 'true').length).toBeGreaterThan(5);
      const pinned = privateKeys.map((key) => computeAddress(`0x${key}`));
      const alone = stepsOf({ receipt: document, pinned });
      expect(named(alone, 'false')).toEqual([]);
      expect(named(alone, 'unchecked')).toContain('log');
    }
  });

  test('every consistency proof is verified beside the receipt', () => {
    const [view] = given.views;
    for (const proof of given.consistency) {
      expect(named(stepsOf({ receipt: view?.document ?? '', keys, heads: [proof] }), 'false')).toEqual([]);
    }
    const all = stepsOf({ receipt: view?.document ?? '', keys, heads: given.consistency });
    expect(named(all, 'false')).toEqual([]);
    if (given.consistency.length > 0) expect(named(all, 'true')).toContain('heads.connected');
  });
});

test.each([
  ['plain', 'tenant', ['part.0.fee']],
  ['adapter', 'tenant', ['inclusion', 'part.0.fee']],
  ['adapter', 'owner', ['inclusion', 'amount']],
  ['blend', 'tenant', ['part.0.fee', 'part.1.fee']],
  ['blend', 'owner', ['shares', 'part.1.lines', 'part.1.total', 'part.1.fee', 'amount']],
  ['erased', 'nobody', ['opened', 'shares', 'part.0.lines', 'part.0.total', 'part.0.fee', 'amount']],
])('%s as the %s sees it: what is not open is not checked, and is no failure', (name, reader, wanted) => {
  const given = vector(name);
  expect(named(stepsOf({ receipt: viewed(given, reader), keys: given.keys }), 'unchecked')).toEqual(wanted);
});

test('an owner learns what each beneficiary is due, as the vectors divide it', () => {
  const given = vector('adapter');
  const steps = stepsOf({ receipt: viewed(given, 'owner'), keys: given.keys });
  const split = steps.find(({ step }) => step === 'part.0.split');
  const earnings = given.receipts[0]?.parts[0]?.earnings ?? [];
  expect(earnings.length).toBe(3);
  for (const { tenant, amount } of earnings) expect(split?.compared).toContain(`${tenant} ${amount}`);
});

test('a consistency proof of the log of seven does not verify with that of eight', () => {
  const [seven, eight] = [vector('log-7'), vector('log-8')];
  const proof = seven.consistency[3] ?? null;
  const roots = { firstRoot: String(at(proof, 'firstHead', 'root')), secondRoot: eight.heads[8]?.root ?? '' };
  const path = [...Array(2).keys()].map((index) => String(at(proof, 'path', index)));
  expect(isConsistent({ first: 3n, second: 8n, ...roots, path })).toBe(false);
});
