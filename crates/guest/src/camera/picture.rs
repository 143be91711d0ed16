//! The test picture that a camera sees: colour bars, a box that moves, the frame's number.

/// Width in pixels.
pub const WIDTH: u32 = 320;
/// Height in pixels.
pub const HEIGHT: u32 = 240;

const BARS: [u32; 8] = [
    0x00bf_bfbf,
    0x00bf_bf00,
    0x0000_bfbf,
    0x0000_bf00,
    0x00bf_00bf,
    0x00bf_0000,
    0x0000_00bf,
    0x0000_0000,
];
const WHITE: u32 = 0x00ff_ffff;
/// Side of the box.
const BOX: u32 = 32;
/// Cells of the number, one for each bit, lowest first.
const CELLS: u32 = 32;
/// Side of a cell.
const CELL: u32 = 8;

/// The pixel at (`x`, `y`), within the picture, of frame `number`.
#[must_use]
pub const fn pixel(x: u32, y: u32, number: u32) -> u32 {
    if y < CELL && x < CELLS * CELL {
        return if number >> (x / CELL) & 1 != 0 {
            WHITE
        } else {
            0
        };
    }
    let bar = BARS[(x * 8 / WIDTH) as usize];
    let left = number.wrapping_mul(4) % (WIDTH - BOX);
    let top = number.wrapping_mul(3) % (HEIGHT - BOX);
    if x >= left && x < left + BOX && y >= top && y < top + BOX {
        bar ^ WHITE
    } else {
        bar
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_differ_from_each_other() {
        let frame = |number| -> Vec<u32> {
            (0..HEIGHT)
                .flat_map(|y| (0..WIDTH).map(move |x| pixel(x, y, number)))
                .collect()
        };
        assert_ne!(frame(0), frame(1));
        assert_ne!(frame(1), frame(u32::MAX));
        assert_eq!(pixel(8, 0, 2), WHITE);
        assert_eq!(pixel(0, 0, 2), 0);
    }
}
