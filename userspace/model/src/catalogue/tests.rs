use super::*;

#[test]
fn quantities_are_displayed_in_full() {
    let cases = [
        (Quantity::Count(1_200), "1200"),
        (Quantity::Times(2.0), "2"),
        (Quantity::Times(2.2), "2.2"),
        (Quantity::Share(0.05), "5 %"),
        (Quantity::Share(0.07), "7 %"),
        (Quantity::Share(0.055), "5.5 %"),
        (Quantity::PerSecond(100.0), "100 per second"),
        (Quantity::Micros(20_000), "20 ms"),
        (Quantity::Micros(999_999), "999.999 ms"),
        (Quantity::Micros(1_000_000), "1 s"),
        (Quantity::Micros(1_100_000), "1.1 s"),
        (Quantity::Bytes(1_024), "1 KiB"),
        (Quantity::Bytes((1 << 20) - 1_024), "1023 KiB"),
        (Quantity::Bytes(1 << 20), "1 MiB"),
        (Quantity::Bytes(3 << 19), "1.5 MiB"),
    ];
    for (quantity, text) in cases {
        assert_eq!(quantity.to_string(), text);
    }
}

#[test]
fn texts_show_values_for_names() {
    let threshold = |name, n| Threshold { name, value: Quantity::Count(n), why: "" };
    let filled = fill("{A} or {B} of {C}, A", &[threshold("A", 1), threshold("B", 2)]);
    assert_eq!(filled, "1 or 2 of {C}, A");
}
