const MONTHS = [
  'January',
  'February',
  'March',
  'April',
  'May',
  'June',
  'July',
  'August',
  'September',
  'October',
  'November',
  'December',
] as const;
const DAYS = ['Sunday', 'Monday', 'Tuesday', 'Wednesday', 'Thursday', 'Friday', 'Saturday'] as const;

/**
 * Python's `strftime` for the directives that chat templates use, in UTC and English. The host's zone and locale
 * would make the same request give another prompt on another machine.
 */
export function strftime(date: Date, format: string): string {
  const month = MONTHS[date.getUTCMonth()] ?? '';
  const day = DAYS[date.getUTCDay()] ?? '';
  const hour = date.getUTCHours();
  return format.replace(/%(-?)(.)/gs, (directive, bare: string, letter: string) => {
    const pad = (value: number): string => String(value).padStart(bare === '' ? 2 : 1, '0');
    switch (letter) {
      case 'Y':
        return String(date.getUTCFullYear());
      case 'y':
        return pad(date.getUTCFullYear() % 100);
      case 'm':
        return pad(date.getUTCMonth() + 1);
      case 'd':
        return pad(date.getUTCDate());
      case 'B':
        return month;
      case 'b':
        return month.slice(0, 3);
      case 'A':
        return day;
      case 'a':
        return day.slice(0, 3);
      case 'H':
        return pad(hour);
      case 'I':
        return pad(hour % 12 === 0 ? 12 : hour % 12);
      case 'M':
        return pad(date.getUTCMinutes());
      case 'S':
        return pad(date.getUTCSeconds());
      case 'p':
        return hour < 12 ? 'AM' : 'PM';
      case '%':
        return '%';
      default:
        throw new Error(`strftime_now does not know ${directive}`);
    }
  });
}
