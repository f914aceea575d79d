import { createHash } from 'node:crypto';
import { readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { connect, createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { z } from 'zod';
import { PatchbayError } from '../../kernel/errors.ts';
import type { Home } from './home.ts';

/** A held lock. */
export interface HomeLock {
  release(): Promise<void>;
}

const holder = z.object({ pid: z.number() });

/**
 * Takes the lock of a database folder, or throws DATA_FOLDER_LOCKED naming the process that has it.
 *
 * The lock is a listening local socket, because the kernel takes that back however its holder dies: a lock file
 * would outlive `kill -9`. On Linux the socket's name is abstract (no file at all); it is derived from the folder's
 * device and inode, so the same folder reached by two paths has one lock. Elsewhere it is a socket file that a dead
 * holder leaves behind and the next one, finding that nobody answers, replaces.
 */
export async function lockHome(home: Home): Promise<HomeLock> {
  const { dev, ino } = statSync(home.folder);
  const name = `patchbay-${createHash('sha256').update(`${dev}:${ino}`).digest('hex').slice(0, 24)}`;
  const abstract = process.platform === 'linux';
  const path = abstract ? `\0${name}` : join(tmpdir(), `${name}.sock`);
  let server = await listen(path);
  if (server === null && !abstract && !(await answers(path))) {
    rmSync(path, { force: true });
    server = await listen(path);
  }
  if (server === null) throw locked(home);
  const held = server;
  held.unref();
  writeFileSync(home.holderFile, `${JSON.stringify({ pid: process.pid })}\n`);
  return {
    async release() {
      rmSync(home.holderFile, { force: true });
      await new Promise<void>((resolve) => held.close(() => resolve()));
    },
  };
}

function listen(path: string): Promise<Server | null> {
  return new Promise((resolve, reject) => {
    const server = createServer((socket) => socket.destroy());
    server.once('error', (error: NodeJS.ErrnoException) =>
      error.code === 'EADDRINUSE' ? resolve(null) : reject(error),
    );
    server.listen({ path, exclusive: true }, () => resolve(server));
  });
}

function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path);
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => resolve(false));
  });
}

function locked(home: Home): PatchbayError {
  const pid = readHolder(home);
  const who = pid === null ? 'Another process' : `Process ${pid}`;
  return new PatchbayError(
    'DATA_FOLDER_LOCKED',
    `${who} runs the embedded database in ${home.folder}.`,
    pid === null ? {} : { meta: { pid } },
  );
}

function readHolder(home: Home): number | null {
  try {
    return holder.parse(JSON.parse(readFileSync(home.holderFile, 'utf8'))).pid;
  } catch {
    // The holder is just starting or stopping; the lock is what counts.
    return null;
  }
}
