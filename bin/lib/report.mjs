// Tells what preparation is doing: a live line on a terminal, plain lines elsewhere. Everything goes to stderr, so
// that the output of a command that had to prepare first stays clean.

const FRAMES = ['⠋', '⠙', '⠹', '⠸', '⠼', '⠴', '⠦', '⠧', '⠇', '⠏'];

/** Starts reporting one step; call the result when it ends. */
export function startStep(label, hint) {
  const started = Date.now();
  const seconds = () => Math.round((Date.now() - started) / 1000);
  if (!process.stderr.isTTY || process.env.CI) {
    process.stderr.write(`${label}${hint ? ` (${hint})` : ''} …\n`);
    return (ok) => {
      process.stderr.write(
        ok ? `${label}: done in ${seconds()} s\n` : `${label}: failed after ${seconds()} s\n`,
      );
    };
  }
  let frame = 0;
  const draw = () => {
    const line = `${FRAMES[frame++ % FRAMES.length]} ${label} ${seconds()} s${hint ? `  (${hint})` : ''}`;
    process.stderr.write(`\r\x1b[2K${line.slice(0, (process.stderr.columns ?? 80) - 1)}`);
  };
  draw();
  const timer = setInterval(draw, 120);
  return (ok) => {
    clearInterval(timer);
    process.stderr.write(`\r\x1b[2K${ok ? '✔' : '✖'} ${label} (${seconds()} s)\n`);
  };
}
