/// Why a recorded history cannot be read.
package struct MalformedHistory: Error, Hashable, Sendable, CustomStringConvertible {
    /// From 1.
    package var line: Int
    /// What is wrong with the line, in words.
    package var reason: String

    /// - Parameter line: from 1.
    package init(line: Int, _ reason: String) {
        self.line = line
        self.reason = reason
    }

    package var description: String { "line \(line): \(reason)" }
}

/// What is wrong with a line, before its number is known.
struct MalformedLine: Error {
    var reason: String

    init(_ reason: String) { self.reason = reason }
}

/// Joins the two events of each operation: a process has at most one operation at a time.
struct Pairing<Request> {
    private var open: [Int: (line: Int, request: Request)] = [:]

    mutating func invoke(_ process: Int, _ request: Request, line: Int) throws(MalformedLine) {
        if let earlier = open[process] {
            throw MalformedLine(
                "process \(process) invokes while its operation of line \(earlier.line) is under way; a process does one at a time"
            )
        }
        open[process] = (line, request)
    }

    mutating func complete(_ process: Int) throws(MalformedLine) -> (line: Int, request: Request) {
        guard let found = open.removeValue(forKey: process) else {
            throw MalformedLine("process \(process) has no operation under way that this line could end")
        }
        return found
    }

    /// What never ended: its outcome is unknown.
    var rest: [(process: Int, line: Int, request: Request)] {
        open.map { ($0.key, $0.value.line, $0.value.request) }.sorted { $0.line < $1.line }
    }
}

/// How an event ends an operation, or begins it.
enum EventType: String {
    case invoke, ok, fail, info
}

/// The lines of a file, with their numbers.
struct Lines: Sequence, IteratorProtocol {
    private let bytes: [UInt8]
    private var start = 0
    private(set) var number = 0

    init(_ bytes: [UInt8]) { self.bytes = bytes }

    /// A last line needs no line feed; a carriage return before the line feed is dropped.
    mutating func next() -> (number: Int, bytes: ArraySlice<UInt8>)? {
        guard start < bytes.count else { return nil }
        let end = bytes[start...].firstIndex(of: UInt8(ascii: "\n")) ?? bytes.count
        var line = bytes[start..<end]
        if line.last == UInt8(ascii: "\r") { line.removeLast() }
        start = end + 1
        number += 1
        return (number, line)
    }
}
