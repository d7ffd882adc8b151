/// A key and a value on their way in or out.
struct Record: Hashable, Sendable {
    var key: [UInt8]
    var value: [UInt8]
    var contentType: String?
}

/// Why a line of an import is not a record.
struct MalformedRecord: Error, Hashable {
    var reason: String
}

/// Bounds of what a node takes, checked before anything is sent so that the error names the line.
enum RecordLimits {
    static let keyBytes = 480
    /// A line may hold a value of the largest configurable size, encoded.
    static let lineBytes = 64 << 20
}

/// Lines of `key TAB value`. The bytes are taken as they are but for four escapes, `\t`, `\n`, `\r` and `\\`, which make every key
/// and value representable. The first tab separates; later ones belong to the value.
enum TabSeparated {
    static func parse(_ line: ArraySlice<UInt8>) throws(MalformedRecord) -> Record {
        guard let tab = line.firstIndex(of: 0x09) else {
            throw MalformedRecord(reason: "there is no tab between a key and a value")
        }
        let key = try unescape(line[..<tab])
        return Record(key: key, value: try unescape(line[(tab + 1)...]), contentType: nil)
    }

    static func line(key: [UInt8], value: [UInt8]) -> [UInt8] {
        var line: [UInt8] = []
        line.reserveCapacity(key.count + value.count + 2)
        escape(key, into: &line)
        line.append(0x09)
        escape(value, into: &line)
        line.append(0x0A)
        return line
    }

    /// A key or a value as it stands in a line.
    static func escaped(_ bytes: [UInt8]) -> [UInt8] {
        var field: [UInt8] = []
        escape(bytes, into: &field)
        return field
    }

    private static func escape(_ bytes: [UInt8], into line: inout [UInt8]) {
        for byte in bytes {
            switch byte {
            case 0x09: line += [0x5C, UInt8(ascii: "t")]
            case 0x0A: line += [0x5C, UInt8(ascii: "n")]
            case 0x0D: line += [0x5C, UInt8(ascii: "r")]
            case 0x5C: line += [0x5C, 0x5C]
            default: line.append(byte)
            }
        }
    }

    private static func unescape(_ bytes: ArraySlice<UInt8>) throws(MalformedRecord) -> [UInt8] {
        guard bytes.contains(0x5C) else { return Array(bytes) }
        var result: [UInt8] = []
        result.reserveCapacity(bytes.count)
        var iterator = bytes.makeIterator()
        while let byte = iterator.next() {
            guard byte == 0x5C else {
                result.append(byte)
                continue
            }
            switch iterator.next() {
            case UInt8(ascii: "t"): result.append(0x09)
            case UInt8(ascii: "n"): result.append(0x0A)
            case UInt8(ascii: "r"): result.append(0x0D)
            case 0x5C: result.append(0x5C)
            default:
                throw MalformedRecord(reason: #"a \ is not followed by t, n, r or \; write a backslash as \\"#)
            }
        }
        return result
    }
}
