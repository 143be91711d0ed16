//! Pictures that a check has got from a device, for people to look at: PNG in a report line.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::checks::Failure;
use crate::report::Line;

/// A PNG of `width` times `height` pixels as a line of the report.
///
/// `pixels` are 0x00RRGGBB, line by line.
///
/// # Errors
/// When there are not as many pixels as the sides say.
pub fn line(
    device: &str,
    name: &str,
    width: u32,
    height: u32,
    pixels: &[u32],
) -> Result<Line, Failure> {
    let png = png(width, height, pixels)
        .map_err(|error| Failure::new(format!("{name} cannot be written: {error}")))?;
    Ok(Line::File {
        device: device.to_owned(),
        name: name.to_owned(),
        base64: STANDARD.encode(png),
    })
}

fn png(width: u32, height: u32, pixels: &[u32]) -> Result<Vec<u8>, png::EncodingError> {
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, width, height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_compression(png::Compression::High);
    let bytes: Vec<u8> = pixels
        .iter()
        .flat_map(|pixel| {
            let [blue, green, red, _] = pixel.to_le_bytes();
            [red, green, blue]
        })
        .collect();
    encoder.write_header()?.write_image_data(&bytes)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_is_read_back_from_its_line() {
        let pixels = [0x00ff_0000, 0x0000_ff00, 0x0000_00ff, 0x0012_3456];
        let line = line("x", "test.png", 2, 2, &pixels).unwrap();
        let Some(Line::File { base64, name, .. }) = Line::parse(&line.to_string()) else {
            panic!("{line}");
        };
        assert_eq!(name, "test.png");
        let file = STANDARD.decode(base64).unwrap();
        let mut reader = png::Decoder::new(std::io::Cursor::new(file))
            .read_info()
            .unwrap();
        let mut bytes = vec![0; reader.output_buffer_size().unwrap()];
        reader.next_frame(&mut bytes).unwrap();
        assert_eq!(
            bytes,
            [0xff, 0, 0, 0, 0xff, 0, 0, 0, 0xff, 0x12, 0x34, 0x56]
        );
        assert!(super::line("x", "short.png", 2, 2, &pixels[1..]).is_err());
    }
}
