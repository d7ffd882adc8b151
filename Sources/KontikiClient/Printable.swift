/// What others stored or sent, made fit to be shown: a terminal would take some characters for commands, and a reader some for the
/// end of a line that they are not.
///
/// Shown as escapes are: control characters (C0, DEL, and C1, which terminals take from UTF-8 as well), those that reorder or break
/// lines of text (bidirectional controls, line and paragraph separators), and bytes that are no UTF-8.
package enum Printable {
    /// How an escape is written.
    package enum Form: Sendable {
        /// `\n`, `\x1b`, `\u{202e}`
        case text
        /// `\n`, `\u001b`, `\u202e`: inside a JSON string it means the very character.
        case json
    }

    /// - Parameter kept: characters of ASCII that are left as they are.
    package static func shown(_ bytes: [UInt8], keeping kept: [UInt8] = [], as form: Form = .text) -> [UInt8] {
        // Nearly everything is plain text.
        guard let first = bytes.firstIndex(where: { $0 < 0x20 && !kept.contains($0) || $0 >= 0x7F }) else {
            return bytes
        }
        var result = Array(bytes[..<first])
        result.reserveCapacity(bytes.count + 16)
        var parser = Unicode.UTF8.ForwardParser()
        var source = bytes[first...].makeIterator()
        var offset = first
        while true {
            switch parser.parseScalar(from: &source) {
            case .emptyInput: return result
            case .error(let length):
                for byte in bytes[offset..<offset + length] {
                    result += form == .json ? Array("\\ufffd".utf8) : Array("\\x\(hexadecimal(UInt32(byte), 2))".utf8)
                }
                offset += length
            case .valid(let encoded):
                let scalar = Unicode.UTF8.decode(encoded)
                let isKept = scalar.isASCII && kept.contains(UInt8(scalar.value))
                if isKept || !mustHide(scalar.value) {
                    result += encoded
                } else {
                    result += Array(escape(scalar.value, form).utf8)
                }
                offset += encoded.count
            }
        }
    }

    /// Text on one line, or with `keepingLines` on the lines, and with the tabs, that it has.
    package static func shown(_ text: String, keepingLines: Bool = false) -> String {
        String(decoding: shown(Array(text.utf8), keeping: keepingLines ? Array("\n\t".utf8) : []), as: UTF8.self)
    }

    private static func mustHide(_ value: UInt32) -> Bool {
        switch value {
        case 0..<0x20, 0x7F...0x9F: true
        // Arabic letter mark; left-to-right and right-to-left marks; separators, embeddings and overrides; isolates.
        case 0x061C, 0x200E...0x200F, 0x2028...0x202E, 0x2066...0x2069: true
        default: false
        }
    }

    private static func escape(_ value: UInt32, _ form: Form) -> String {
        switch value {
        case 0x0A: "\\n"
        case 0x0D: "\\r"
        case 0x09: "\\t"
        case _ where form == .json: "\\u\(hexadecimal(value, 4))"
        case ..<0x80: "\\x\(hexadecimal(value, 2))"
        default: "\\u{\(hexadecimal(value, 1))}"
        }
    }

    private static func hexadecimal(_ value: UInt32, _ width: Int) -> String {
        let digits = String(value, radix: 16)
        return String(repeating: "0", count: max(0, width - digits.utf8.count)) + digits
    }
}
