import { describe, expect, test } from 'vitest';
import type { Scope } from '../../../src/auth/principal.ts';
import { EVENT_KINDS, filterFor, scopeOfKind } from '../../../src/events/kinds.ts';
import { formatPlace, parsePlace, placeBefore } from '../../../src/events/place.ts';
import { Watcher } from '../../../src/events/watcher.ts';
import { PatchbayError } from '../../../src/kernel/errors.ts';
import { PRINCIPAL } from '../graphql/fakes.ts';

describe('a place', () => {
  test('is what its text says, past 2^53', () => {
    const place = { transaction: 9_007_199_254_740_993n, position: 2n ** 63n - 1n };
    expect(parsePlace(formatPlace(place))).toEqual(place);
  });

  test.each(['', '1', '1-', '-1-2', '1-2-3', '01-2', '1-0', '0-1', `${2n ** 63n}-1`, '1-1e3', ' 1-2'])(
    'is not %j',
    (text) => {
      expect(() => parsePlace(text)).toThrow(PatchbayError);
    },
  );

  test('before a horizon is behind everything that is decided', () => {
    expect(placeBefore(10n)).toEqual({ transaction: 9n, position: 2n ** 63n - 1n });
  });
});

describe('the kinds that a key gets', () => {
  const actor = (...scopes: readonly Scope[]) => ({ ...PRINCIPAL, scopes });
  const code = (work: () => unknown): unknown => {
    try {
      work();
      return null;
    } catch (error) {
      return error instanceof PatchbayError ? error.code : error;
    }
  };

  test('are those that its scopes show when it names none', () => {
    const all = Object.keys(EVENT_KINDS);
    expect(filterFor(actor('adapters:read', 'billing:read', 'usage:read'), null)).toEqual({ kinds: all });
    expect(filterFor(actor('adapters:read'), [])).toEqual({ kinds: ['adapter.state'] });
    expect(filterFor(actor('usage:read'), null)).toEqual({
      kinds: ['epoch.quarantined', 'request.settled'],
    });
    // Whoever reads bills alone is told nothing of single requests.
    expect(filterFor(actor('billing:read'), null)).toEqual({
      kinds: all.filter((kind) => !['adapter.state', 'epoch.quarantined', 'request.settled'].includes(kind)),
    });
    expect(code(() => filterFor(actor('infer'), null))).toBe('FORBIDDEN');
  });

  test('are all that it names, or none', () => {
    const kinds = ['budget.threshold', 'budget.threshold'];
    expect(filterFor(actor('billing:read'), kinds)).toEqual({ kinds: ['budget.threshold'] });
    expect(code(() => filterFor(actor('billing:read'), [...kinds, 'adapter.state']))).toBe('FORBIDDEN');
    expect(code(() => filterFor(actor('adapters:read'), kinds))).toBe('FORBIDDEN');
    expect(code(() => filterFor(actor('billing:read'), ['request.settled']))).toBe('FORBIDDEN');
    expect(filterFor(actor('usage:read'), ['request.settled'])).toEqual({ kinds: ['request.settled'] });
    expect(code(() => filterFor(actor('adapters:read', 'billing:read'), ['budget.treshold']))).toBe(
      'BAD_INPUT',
    );
    expect(code(() => filterFor(actor('billing:read'), ['constructor']))).toBe('BAD_INPUT');
  });

  test('have a form that the database takes, and a scope', () => {
    for (const kind of Object.keys(EVENT_KINDS)) {
      expect(kind).toMatch(/^[a-z]+(_[a-z]+)*\.[a-z]+(_[a-z]+)*$/);
      expect(scopeOfKind(kind)).toBe(
        {
          'adapter.state': 'adapters:read',
          'epoch.quarantined': 'usage:read',
          'request.settled': 'usage:read',
        }[kind] ?? 'billing:read',
      );
    }
  });
});

describe('a watcher', () => {
  test('does not miss what is signalled while it does not wait, and waits again after that', async () => {
    const watcher = new Watcher(() => {});
    watcher.signal();
    watcher.signal();
    await watcher.wait();
    const seen: string[] = [];
    const waiting = watcher.wait().then(() => seen.push('woken'));
    await Promise.resolve();
    expect(seen).toEqual([]);
    watcher.signal();
    await waiting;
    expect(seen).toEqual(['woken']);
  });

  test('is woken when it is closed, and says so once', async () => {
    let closed = 0;
    const watcher = new Watcher(() => {
      closed += 1;
    });
    const waiting = watcher.wait();
    watcher.close();
    watcher.close();
    await waiting;
    await watcher.wait();
    expect([closed, watcher.closed]).toEqual([1, true]);
  });
});
