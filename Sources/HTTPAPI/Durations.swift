/// Durations as the API writes them: `500ms`, `30s`, `5m`, `1h`.
enum Durations {
    /// The milliseconds of the longest lease have as many.
    static let maximumDigits = 11

    /// Milliseconds, or nil when the text is none of the forms or the number has more than eleven digits.
    static func milliseconds(_ text: some Sequence<UInt8>) -> Int? {
        var number = 0
        var digits = 0
        var unit: [UInt8] = []
        for byte in text {
            if unit.isEmpty, (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) {
                digits += 1
                guard digits <= maximumDigits else { return nil }
                number = number * 10 + Int(byte - UInt8(ascii: "0"))
            } else {
                guard unit.count < 2 else { return nil }
                unit.append(byte)
            }
        }
        guard digits > 0 else { return nil }
        if unit == Array("ms".utf8) { return number }
        if unit == [UInt8(ascii: "s")] { return number * 1_000 }
        if unit == [UInt8(ascii: "m")] { return number * 60_000 }
        if unit == [UInt8(ascii: "h")] { return number * 3_600_000 }
        return nil
    }

    /// The shortest of the forms that says it exactly.
    static func text(milliseconds: Int) -> String {
        if milliseconds % 3_600_000 == 0, milliseconds > 0 { return "\(milliseconds / 3_600_000)h" }
        if milliseconds % 60_000 == 0, milliseconds > 0 { return "\(milliseconds / 60_000)m" }
        if milliseconds % 1_000 == 0 { return "\(milliseconds / 1_000)s" }
        return "\(milliseconds)ms"
    }
}
