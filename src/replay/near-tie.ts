/**
 * Of two tokens whose logits differ by no more, either may be chosen, by the width of the backbone's weights in bits: twice of
 * what was measured, and more. Fewer bits need so much, because activations are rounded to bytes there, and a last digit
 * decides to which. The figures are in docs/concepts/replay.md.
 */
export const NEAR_TIE: Readonly<Record<32 | 8 | 4, number>> = { 32: 1e-3, 8: 0.5, 4: 0.5 };
