/// What is wrong with the bytes of a request target.
enum TargetError: Error, Equatable {
    /// A `%` without two hexadecimal digits behind it; `at` counts bytes from the start of the part.
    case malformedPercentEncoding(at: Int)
    /// Raw bytes that were no UTF-8. The parser in front replaced them, so what was meant is lost.
    case rawBytes
    /// A control character, a space or `#`, which no request target may hold (RFC 9112 §3.2).
    case forbiddenByte(UInt8)
}

/// Percent-decoding (RFC 3986 §2.1), once and of bytes: what comes out need not be UTF-8.
enum PercentDecoding {
    /// Appends the decoded bytes of `text` to `output`.
    ///
    /// - Parameter plusIsSpace: in a query `+` stands for a space, as forms and most client libraries write it; in a path it stands
    ///   for itself.
    static func decode(
        _ text: some Collection<UInt8>,
        plusIsSpace: Bool,
        into output: inout [UInt8]
    ) throws(TargetError) {
        output.reserveCapacity(output.count + text.count)
        var index = text.startIndex
        var offset = 0
        while index != text.endIndex {
            let byte = text[index]
            switch byte {
            case UInt8(ascii: "%"):
                guard let high = text.index(index, offsetBy: 1, limitedBy: text.endIndex), high != text.endIndex,
                    let low = text.index(index, offsetBy: 2, limitedBy: text.endIndex), low != text.endIndex,
                    let first = hexDigit(text[high]), let second = hexDigit(text[low])
                else { throw .malformedPercentEncoding(at: offset) }
                output.append(first << 4 | second)
                index = text.index(after: low)
                offset += 3
                continue
            case UInt8(ascii: "+") where plusIsSpace:
                output.append(UInt8(ascii: " "))
            case 0...0x20, 0x7F, UInt8(ascii: "#"):
                throw .forbiddenByte(byte)
            case 0xEF where isReplacementCharacter(text, at: index):
                throw .rawBytes
            default:
                output.append(byte)
            }
            index = text.index(after: index)
            offset += 1
        }
    }

    /// The HTTP parser hands the target over as a `String` and so turns invalid UTF-8 into U+FFFD. Taking that for the key would
    /// store under another name than the one that was sent.
    private static func isReplacementCharacter<Text: Collection<UInt8>>(_ text: Text, at index: Text.Index) -> Bool {
        let three = text[index...].prefix(3)
        return three.elementsEqual([0xEF, 0xBF, 0xBD])
    }

    static func hexDigit(_ byte: UInt8) -> UInt8? {
        switch byte {
        case UInt8(ascii: "0")...UInt8(ascii: "9"): byte - UInt8(ascii: "0")
        case UInt8(ascii: "a")...UInt8(ascii: "f"): byte - UInt8(ascii: "a") + 10
        case UInt8(ascii: "A")...UInt8(ascii: "F"): byte - UInt8(ascii: "A") + 10
        default: nil
        }
    }

    /// The inverse, for links: everything but RFC 3986's unreserved characters is escaped.
    static func encode(_ bytes: some Sequence<UInt8>) -> String {
        var text = ""
        for byte in bytes {
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "."), UInt8(ascii: "_"),
                UInt8(ascii: "~"), UInt8(ascii: "/"):
                text.unicodeScalars.append(Unicode.Scalar(byte))
            default:
                let digits = String(byte, radix: 16, uppercase: true)
                text += digits.utf8.count == 1 ? "%0" + digits : "%" + digits
            }
        }
        return text
    }
}
