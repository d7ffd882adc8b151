import Simulation

@testable import Raft

/// The words of one command, taken one after the other.
struct Words {
    private var rest: ArraySlice<String>
    let line: String

    init(_ line: String) {
        self.line = line
        self.rest = line.split(separator: " ").map(String.init)[...]
    }

    var isEmpty: Bool { rest.isEmpty }

    var peek: String? { rest.first }

    mutating func next(_ what: String) throws -> String {
        guard let word = rest.popFirst() else { throw Broken("\(what) is missing in \"\(line)\"") }
        return word
    }

    /// Takes the next word if it is `word`.
    mutating func take(_ word: String) -> Bool {
        guard rest.first == word else { return false }
        rest.removeFirst()
        return true
    }

    mutating func number(_ what: String) throws -> Int {
        let word = try next(what)
        guard let number = Int(word) else { throw Broken("\(what) is a number, not \(word), in \"\(line)\"") }
        return number
    }

    /// The next word as a number, if it is one.
    mutating func optionalNumber() -> Int? {
        guard let number = rest.first.flatMap({ Int($0) }) else { return nil }
        rest.removeFirst()
        return number
    }

    mutating func all() -> [String] {
        defer { rest = [] }
        return Array(rest)
    }

    /// Numbers from here to the end.
    mutating func numbers() throws -> [Int] {
        var numbers: [Int] = []
        while !isEmpty { numbers.append(try number("a server")) }
        return numbers
    }

    /// `1,2,3`
    static func list(_ word: String) throws -> [Int] {
        try word.split(separator: ",").map { part in
            guard let number = Int(part) else { throw Broken("\(word) is no list of servers") }
            return number
        }
    }

    /// `1->2`, with `*` for any server.
    mutating func link() throws -> (from: Int?, to: Int?) {
        let word = try next("a link such as 1->2")
        let ends = word.split(separator: "->")
        guard ends.count == 2, ends.allSatisfy({ $0 == "*" || Int($0) != nil }) else {
            throw Broken("\(word) is no link such as 1->2 in \"\(line)\"")
        }
        return (Int(ends[0]), Int(ends[1]))
    }

    /// Positions `TERM.INDEX`, or `TERM.FIRST..LAST` for several of one term, as entries without content.
    mutating func entries() throws -> [Entry] {
        var entries: [Entry] = []
        while let word = peek, word.first?.isNumber == true, word.contains(".") {
            _ = try next("a position")
            let parts = word.split(separator: ".")
            guard let term = UInt64(parts[0]), let first = UInt64(parts[1]),
                let last = parts.count > 2 ? UInt64(parts[2]) : first, first <= last
            else { throw Broken("\(word) is no position in \"\(line)\"") }
            for index in first...last { entries.append(Entry(index: index, term: term, payload: .command([]))) }
        }
        return entries
    }

    mutating func position() throws -> LogPosition {
        let word = try next("a position")
        let parts = word.split(separator: ".").map { UInt64($0) }
        guard parts.count == 2, let term = parts[0], let index = parts[1] else {
            throw Broken("\(word) is no position such as 2.5 in \"\(line)\"")
        }
        return LogPosition(index: index, term: term)
    }
}
