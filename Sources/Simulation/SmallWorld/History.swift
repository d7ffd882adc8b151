internal import Raft

extension SmallWorld {
    /// What the promises of Raft speak of, over all servers and all time.
    struct History: Hashable {
        struct Committed: Hashable {
            var entry: Entry
            /// The term in which it was first committed.
            var term: Term
        }

        /// Requests made, crashes and duplications had so far.
        var proposals: UInt8 = 0
        var changes: UInt8 = 0
        var transfers: UInt8 = 0
        var crashes: UInt8 = 0
        var duplications: UInt8 = 0
        /// For each read asked for, what was committed then.
        var readFloors: [LogIndex] = []
        /// Who led each term, by term; 0 for nobody yet.
        var leaders: [UInt64] = []
        /// By index, from 1 on.
        var committed: [Committed] = []

        func entry(at index: LogIndex) -> Entry? {
            index >= 1 && index <= UInt64(committed.count) ? committed[Int(index) - 1].entry : nil
        }

        /// Takes in what `node` now claims: to lead, and what is committed.
        mutating func take(_ node: Node) throws(Broken) {
            let core = node.core
            if core.isLeader {
                let term = Int(core.term)
                while leaders.count <= term { leaders.append(0) }
                if leaders[term] == 0 { leaders[term] = core.id.rawValue }
                if leaders[term] != core.id.rawValue {
                    throw Broken("two leaders in term \(term): s\(leaders[term]) and s\(core.id.rawValue)")
                }
                try checkCompleteness(of: node)
            }
            for index in 1..<(core.commitIndex + 1) {
                guard let entry = node.memory.entry(at: index) else {
                    throw Broken("s\(core.id.rawValue) has committed \(index), which its log does not hold")
                }
                if index > UInt64(committed.count) {
                    committed.append(Committed(entry: entry, term: core.term))
                } else if committed[Int(index) - 1].entry != entry {
                    let known = committed[Int(index) - 1].entry.position
                    throw Broken(
                        "a committed entry changed: \(known), but s\(core.id.rawValue) commits \(entry.position)"
                    )
                }
            }
        }

        /// What was committed in a term stands in the log of every leader of a later one.
        func checkCompleteness(of node: Node) throws(Broken) {
            guard node.core.isLeader else { return }
            for item in committed where item.term < node.core.term {
                if node.memory.entry(at: item.entry.index) != item.entry {
                    throw Broken(
                        "s\(node.core.id.rawValue) leads term \(node.core.term) without \(item.entry.position), "
                            + "which was committed in term \(item.term)"
                    )
                }
            }
        }
    }

    /// A broken promise, found in one step.
    struct Broken: Error {
        var description: String

        init(_ description: String) { self.description = description }
    }
}
