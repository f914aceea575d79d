import type { Uuid } from '../kernel/ids.ts';

/** The tenant that stands for the operator; migration 0001 creates it. */
export const PLATFORM_TENANT_ID: Uuid = '00000000-0000-7000-8000-000000000000';
