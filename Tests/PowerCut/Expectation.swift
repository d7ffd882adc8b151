internal import KeyValue
internal import Raft

/// What may be found on the disk after a power cut, as the notes in a trace tell: the log stands as some prefix of its writes left it,
/// and no promise that left the node is broken by it.
package struct Expectation: Sendable {
    /// How the log looked after each write; nil before there was one.
    private(set) var shapes: [LogShape?]
    /// The first of them that keeps all promises.
    private(set) var minimum = 0
    /// Who the server is, once it has been started.
    private(set) var serverID: ServerID?
    /// It has dealt with others.
    private(set) var hasCluster = false
    /// Acknowledged to clients.
    private(set) var acknowledged: [Acknowledgement] = []
    /// Where the notes contradict each other: the node did wrong before any power cut.
    package private(set) var contradiction: String?

    /// - Parameter found: the log that lay there when the recording began; nil for none.
    package init(found: LogShape?) { shapes = found.map { [$0] } ?? [nil, LogShape()] }

    package mutating func advance(_ note: String) {
        let words = note.split(separator: " ")
        let numbers = words.dropFirst().compactMap { UInt64($0) }
        switch words.first {
        case "write":
            guard let write = WriteNote(words: words.dropFirst()) else { return contradict(note) }
            var next = (shapes.last ?? nil) ?? LogShape()
            next.apply(write)
            shapes.append(next)
        case "recovered" where numbers.count == 8: recovered(numbers, note)
        case "term" where numbers.count == 1:
            raise(note) { $0.hardState.term >= numbers[0] }
        case "vote" where numbers.count == 2:
            let promised = HardState(term: numbers[0], vote: ServerID(numbers[1]))
            raise(note) { $0.hardState.term > promised.term || $0.hardState == promised }
        case "match" where numbers.count == 1: promise(upTo: numbers[0], note)
        case "ack" where words.count >= 3:
            let position = LogPosition(index: numbers[0], term: numbers[1])
            let answer = words.count == 4 ? KeyValue.Outcome(hexadecimal: words[3]) : nil
            if words.count == 4, answer == nil { return contradict(note) }
            acknowledged.append(Acknowledgement(position: position, answer: answer))
            promise(position, note)
        default: contradict(note)
        }
    }

    private mutating func contradict(_ note: String) { contradiction = contradiction ?? "unexpected: \(note)" }

    /// The first prefix at which `holds` does, from the present minimum on.
    private mutating func raise(_ note: String, _ holds: (LogShape) -> Bool) {
        guard let first = shapes.indices.dropFirst(minimum).first(where: { shapes[$0].map(holds) ?? false }) else {
            return contradict(note)
        }
        minimum = first
        hasCluster = true
    }

    private mutating func promise(upTo index: LogIndex, _ note: String) {
        // The entries that a follower answers for may be compacted, or cut off again, by writes that came before the answer left.
        for shape in shapes.reversed() {
            guard let shape else { break }
            if index < shape.base.index { return }
            if let term = shape.term(at: index) { return promise(LogPosition(index: index, term: term), note) }
        }
        contradict(note)
    }

    private mutating func promise(_ position: LogPosition, _ note: String) {
        guard position.index > 0 else { return }
        guard var first = shapes.lastIndex(where: { $0?.holds(position) ?? false }) else { return contradict(note) }
        while first > minimum, shapes[first - 1]?.holds(position) ?? false { first -= 1 }
        minimum = max(minimum, first)
    }

    /// term, vote, base's index and term, last index and term, server, cluster.
    private mutating func recovered(_ numbers: [UInt64], _ note: String) {
        let hardState = HardState(term: numbers[0], vote: numbers[1] == 0 ? nil : ServerID(numbers[1]))
        let base = LogPosition(index: numbers[2], term: numbers[3])
        let last = LogPosition(index: numbers[4], term: numbers[5])
        let matches: (LogShape?) -> Bool = { shape in
            guard let shape else { return false }
            return shape.hardState == hardState && shape.base == base && shape.last == last
        }
        if let serverID, serverID != ServerID(numbers[6]) { contradict(note) }
        guard let found = shapes.lastIndex(where: matches), found >= minimum else { return contradict(note) }
        shapes.removeSubrange((found + 1)...)
        minimum = found
        serverID = ServerID(numbers[6])
        hasCluster = hasCluster || numbers[7] != 0
    }

    /// Checks what a recovery found; answers what is wrong with it, or nil.
    func verdict(on shape: LogShape, serverID found: ServerID, clusterID: ClusterID) -> String? {
        if let serverID, serverID != found { return "the server is another: \(found), not \(serverID)" }
        if hasCluster, clusterID == .none { return "the server has forgotten its cluster" }
        if shapes[minimum...].contains(shape) { return nil }
        if let older = shapes[..<minimum].lastIndex(of: shape) {
            let missing = acknowledged.map(\.position).first { !shape.holds($0) }
            let loss = missing.map { "; the acknowledged entry \($0) is lost" } ?? ""
            return "the log is as it was \(minimum - older) writes before what was promised: \(shape.summary)\(loss)"
        }
        return "the log is as it never was: \(shape.summary)"
    }

    /// What identifies what is expected now, for not checking one image twice.
    var fingerprint: UInt64 { mix(UInt64(minimum), UInt64(shapes.count)) }
}

extension LogShape {
    var summary: String {
        "term \(hardState.term), vote \(hardState.vote.map { "\($0)" } ?? "none"), base \(base), last \(last)"
    }
}

extension KeyValue.Outcome {
    /// Its encoded form in hexadecimal digits.
    var hexadecimal: String {
        let digits = Array("0123456789abcdef".utf8)
        return String(decoding: encode().flatMap { [digits[Int($0 >> 4)], digits[Int($0 & 15)]] }, as: UTF8.self)
    }

    /// Nil for any other text.
    fileprivate init?(hexadecimal text: Substring) {
        let digits = text.utf8.compactMap { UInt8(String(UnicodeScalar($0)), radix: 16) }
        guard digits.count == text.utf8.count, digits.count % 2 == 0 else { return nil }
        self.init(decoding: stride(from: 0, to: digits.count, by: 2).map { digits[$0] << 4 | digits[$0 + 1] })
    }
}
