internal import DequeModule
package import Raft

/// Joins what became of a command with what applying it answered, whichever is known first.
package struct Answers<Output> {
    package enum Answer {
        /// The apply of its entry is still to come; ``Answers/applied(_:_:keeps:)`` names the token then.
        case later
        case known(Output)
        /// It was applied, but what it answered is not known any more.
        case lost
    }

    /// Commands that are committed and wait for the apply of their entry.
    private var waiting: [LogIndex: (token: Token, term: Term)] = [:]
    /// What was applied of late, kept while the leader owes answers: an answer may come after its entry was applied.
    private var recent: Deque<(position: LogPosition, output: Output)> = []
    private static var maxRecent: Int { 1024 }

    package init() {}

    /// The command of `token` stands committed at `position`; the machine stands at `applied`.
    package mutating func committed(_ token: Token, at position: LogPosition, applied: LogIndex) -> Answer {
        guard position.index <= applied else {
            waiting[position.index] = (token, position.term)
            return .later
        }
        return recent.last { $0.position == position }.map { .known($0.output) } ?? .lost
    }

    /// The entry at `position` was applied; answers the token that waits for it. `keeps` says whether others may yet ask for it.
    package mutating func applied(_ position: LogPosition, _ output: Output, keeps: Bool) -> Token? {
        if keeps {
            if recent.count == Self.maxRecent { recent.removeFirst() }
            recent.append((position, output))
        } else if !recent.isEmpty {
            recent.removeAll()
        }
        return waiting.removeValue(forKey: position.index)?.token
    }

    /// A snapshot took the place of entries up to `index`: what their commands answered will not be known. Answers their tokens.
    package mutating func abandon(upTo index: LogIndex) -> [Token] {
        let abandoned = waiting.filter { $0.key <= index }
        for index in abandoned.keys { waiting[index] = nil }
        return isPlanted(.swallowedAnswerStaysOpen) ? [] : abandoned.values.map(\.token).sorted()
    }

    package mutating func removeAll() { self = Answers() }
}

extension Answers: Sendable where Output: Sendable {}
extension Answers.Answer: Sendable where Output: Sendable {}
