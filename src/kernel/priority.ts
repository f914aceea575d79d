/** Priority classes, most urgent first. */
export const PRIORITY_CLASSES = ['INTERACTIVE', 'STANDARD', 'BATCH'] as const;
export type PriorityClass = (typeof PRIORITY_CLASSES)[number];
