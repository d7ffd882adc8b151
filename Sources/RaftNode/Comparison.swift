internal import DequeModule
internal import Raft

/// A state's hash at an applied index.
struct StateNote: Hashable, Sendable {
    var index: LogIndex
    var hash: [UInt8]
}

/// The last notes that a server made, in the order of the indexes.
struct StateNotes: Sendable {
    static let capacity = 32
    private(set) var all: Deque<StateNote> = []

    /// Notes the hash at `index`, which is behind the last one's; a second time at the same index changes nothing.
    mutating func add(_ index: LogIndex, _ hash: [UInt8]) {
        guard index > all.last?.index ?? 0 else { return }
        all.append(StateNote(index: index, hash: hash))
        if all.count > Self.capacity { all.removeFirst() }
    }

    /// The state was replaced: what was noted is no more about it.
    mutating func removeAll() { all.removeAll() }

    func hash(at index: LogIndex) -> [UInt8]? { all.first { $0.index == index }?.hash }
}

/// What comes of comparing the notes of several servers.
struct Comparison: Hashable, Sendable {
    /// A server whose state differs from the one that a majority of the voters has.
    struct Culprit: Hashable, Sendable {
        var server: ServerID
        var index: LogIndex
        var hash: [UInt8]
        var expected: [UInt8]
    }

    /// Indexes at which two servers or more could be compared.
    var compared: [LogIndex] = []
    /// In the order of the servers.
    var culprits: [Culprit] = []
    /// The last index at which servers differ and no majority says who is right.
    var undecided: LogIndex?

    /// Compares what servers noted at equal indexes.
    ///
    /// The state at an index is right when a majority of all voters noted it, of both sets of them in a joint configuration; a server
    /// that noted another one there is a culprit. Notes of servers that are no voters are judged but do not count.
    init(_ configuration: Configuration, _ notes: [(server: ServerID, notes: [StateNote])]) {
        var atIndex: [LogIndex: [(server: ServerID, hash: [UInt8])]] = [:]
        for (server, notes) in notes {
            for note in notes { atIndex[note.index, default: []].append((server, note.hash)) }
        }
        for index in atIndex.keys.sorted() {
            guard let here = atIndex[index], here.count > 1 else { continue }
            compared.append(index)
            let hashes = Set(here.map(\.hash))
            guard hashes.count > 1 else { continue }
            let right = hashes.first { hash in
                let holders = Set(here.filter { $0.hash == hash }.map(\.server))
                return Self.isMajority(holders, of: configuration.voters)
                    && (configuration.outgoing.isEmpty || Self.isMajority(holders, of: configuration.outgoing))
            }
            guard let right else {
                undecided = index
                continue
            }
            for (server, hash) in here where hash != right && !culprits.contains(where: { $0.server == server }) {
                culprits.append(Culprit(server: server, index: index, hash: hash, expected: right))
            }
        }
        culprits.sort { $0.server < $1.server }
    }

    private static func isMajority(_ servers: Set<ServerID>, of voters: [ServerID]) -> Bool {
        2 * voters.count { servers.contains($0) } > voters.count
    }
}
