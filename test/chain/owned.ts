import { expect, test } from 'vitest';
import { ACCESS_ABI, abiOf } from '../../src/chain/call.ts';
import type { Anvil } from '../kit/anvil.ts';

/** Seconds between the two steps in which an owner changes. */
export const OWNER_DELAY = 3_600;

const ABI = abiOf(ACCESS_ABI, [
  'function grantRole(bytes32 role, address account)',
  'function revokeRole(bytes32 role, address account)',
  'function renounceRole(bytes32 role, address account)',
  'function beginDefaultAdminTransfer(address newAdmin)',
  'function acceptDefaultAdminTransfer()',
  'function cancelDefaultAdminTransfer()',
  'event RoleGranted(bytes32 indexed role, address indexed account, address indexed sender)',
  'event RoleRevoked(bytes32 indexed role, address indexed account, address indexed sender)',
  'event DefaultAdminTransferScheduled(address indexed newAdmin, uint48 acceptSchedule)',
  'event DefaultAdminTransferCanceled()',
]);
const OWNER_ROLE = `0x${'00'.repeat(32)}`;

/** A contract with an owner who gives a role. */
interface Owned {
  readonly chain: () => Anvil;
  readonly deployed: () => Promise<string>;
  readonly owner: () => string;
  readonly role: string;
  readonly holder: () => string;
  readonly stranger: () => string;
}

/** What holds for roles and the owner of either contract. */
export function owned({ chain, deployed, owner, role, holder, stranger }: Owned): void {
  const call = (to: string, name: string, ...args: readonly unknown[]) => ({
    to,
    data: ABI.encodeFunctionData(name, args),
  });
  const events = async (from: string, to: string, name: string, ...args: readonly unknown[]) =>
    (await chain().send(from, call(to, name, ...args))).logs.map((log) => ABI.parseLog(log)?.name);
  const read = async (to: string, name: string, ...args: readonly unknown[]): Promise<unknown> =>
    ABI.decodeFunctionResult(name, await chain().provider.call(call(to, name, ...args)))[0];
  const refusal = (from: string, to: string, name: string, ...args: readonly unknown[]) =>
    chain().refusal(from, call(to, name, ...args), ABI);

  test('the owner grants and revokes the role, and nobody else does', async () => {
    const to = await deployed();
    expect(await read(to, 'hasRole', role, holder())).toBe(true);
    expect(await read(to, 'hasRole', role, owner())).toBe(false);
    for (const from of [holder(), stranger()]) {
      expect(await refusal(from, to, 'grantRole', role, stranger())).toEqual({
        name: 'AccessControlUnauthorizedAccount',
        args: { account: from, neededRole: OWNER_ROLE },
      });
    }
    expect(await events(owner(), to, 'revokeRole', role, holder())).toEqual(['RoleRevoked']);
    expect(await events(owner(), to, 'grantRole', role, stranger())).toEqual(['RoleGranted']);
    expect(await read(to, 'hasRole', role, holder())).toBe(false);
    expect(await read(to, 'hasRole', role, stranger())).toBe(true);
    expect(await events(stranger(), to, 'renounceRole', role, stranger())).toEqual(['RoleRevoked']);
    expect((await refusal(stranger(), to, 'renounceRole', role, owner())).name).toBe(
      'AccessControlBadConfirmation',
    );
  });

  test('the owner changes in two steps with a wait between them', async () => {
    const to = await deployed();
    expect(await read(to, 'owner')).toBe(owner());
    expect((await refusal(owner(), to, 'grantRole', OWNER_ROLE, stranger())).name).toBe(
      'AccessControlEnforcedDefaultAdminRules',
    );
    expect((await refusal(stranger(), to, 'beginDefaultAdminTransfer', stranger())).name).toBe(
      'AccessControlUnauthorizedAccount',
    );
    expect(await events(owner(), to, 'beginDefaultAdminTransfer', stranger())).toEqual([
      'DefaultAdminTransferScheduled',
    ]);
    expect(await read(to, 'owner')).toBe(owner());
    expect((await refusal(stranger(), to, 'acceptDefaultAdminTransfer')).name).toBe(
      'AccessControlEnforcedDefaultAdminDelay',
    );
    await chain().pass(OWNER_DELAY + 1);
    expect(await refusal(holder(), to, 'acceptDefaultAdminTransfer')).toEqual({
      name: 'AccessControlInvalidDefaultAdmin',
      args: { defaultAdmin: holder() },
    });
    expect(await events(stranger(), to, 'acceptDefaultAdminTransfer')).toEqual([
      'RoleRevoked',
      'RoleGranted',
    ]);
    expect(await read(to, 'owner')).toBe(stranger());
    expect((await refusal(owner(), to, 'grantRole', role, owner())).name).toBe(
      'AccessControlUnauthorizedAccount',
    );
  });

  test('a change of the owner can be taken back until it is accepted', async () => {
    const to = await deployed();
    await chain().send(owner(), call(to, 'beginDefaultAdminTransfer', stranger()));
    expect(await events(owner(), to, 'cancelDefaultAdminTransfer')).toEqual(['DefaultAdminTransferCanceled']);
    await chain().pass(OWNER_DELAY + 1);
    expect((await refusal(stranger(), to, 'acceptDefaultAdminTransfer')).name).toBe(
      'AccessControlInvalidDefaultAdmin',
    );
  });
}
