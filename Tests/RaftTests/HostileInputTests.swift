import Testing

@testable import Raft

/// Whatever a peer sends, the core does not trap; at worst it halts.
@Suite struct HostileInputTests {
    private static func number(_ random: inout SeededRandom) -> UInt64 {
        switch random.next() % 8 {
        case 0: .max
        case 1: .max - random.next() % 3
        case 2: random.next()
        case 3: 1 << 62
        default: random.next() % 12
        }
    }

    private static func entry(_ random: inout SeededRandom) -> Entry {
        let payloads: [Entry.Payload] = [
            .noop, .command([1]), .configuration(.empty), .configuration(configuration([1])),
            .configuration(configuration([2, 3])),
        ]
        let payload = payloads[Int(random.next() % UInt64(payloads.count))]
        return Entry(index: number(&random), term: number(&random), payload: payload)
    }

    /// A number that the core itself would have to know, now and then.
    private static func session(_ core: Core, _ random: inout SeededRandom) -> UInt64 {
        core.peers.isEmpty || random.next() % 4 == 0
            ? number(&random) : core.peers[Int(random.next() % UInt64(core.peers.count))].session
    }

    private static func body(for core: Core, _ random: inout SeededRandom) -> Message.Body {
        let place = position(number(&random), number(&random))
        let request = VoteRequest(last: place, isTransfer: random.next() % 2 == 0)
        let session = session(core, &random)
        switch random.next() % 13 {
        case 0: return .preVoteRequest(request)
        case 1: return .preVoteResponse(granted: random.next() % 2 == 0)
        case 2: return .voteRequest(request)
        case 3: return .voteResponse(granted: random.next() % 2 == 0)
        case 4, 5:
            let previous = random.next() % 2 == 0 ? core.log.last : place
            var entries = (0..<(random.next() % 4)).map { _ in entry(&random) }
            if random.next() % 2 == 0 {
                for index in entries.indices {
                    entries[index].index = previous.index &+ 1 &+ UInt64(index)
                    entries[index].term = core.term
                }
            }
            let (commit, round) = (number(&random), number(&random))
            return .append(
                Append(previous: previous, entries: entries, commit: commit, session: session, round: round)
            )
        case 6:
            let result: AppendResponse.Result =
                random.next() % 2 == 0
                ? .accepted(match: number(&random)) : .rejected(rejected: number(&random), hint: place)
            return .appendResponse(AppendResponse(result: result, session: session, round: number(&random)))
        case 7: return .heartbeat(Heartbeat(commit: number(&random), session: session, round: number(&random)))
        case 8: return .heartbeatResponse(HeartbeatResponse(session: session, round: number(&random)))
        case 9: return .timeoutNow
        case 10: return .readIndexRequest(requestID: number(&random))
        case 11:
            let index = random.next() % 2 == 0 ? nil : number(&random)
            return .readIndexResponse(requestID: number(&random), index: index)
        default:
            return switch random.next() % 3 {
            case 0: .propose(requestID: number(&random), commands: [[1], []])
            case 1: .proposeResponse(requestID: number(&random), .accepted(first: place))
            default: .proposeResponse(requestID: number(&random), .overloaded)
            }
        }
    }

    @Test("Garbage from peers never traps the core", arguments: 1...20)
    func garbage(seed: UInt64) {
        var random = SeededRandom(seed: seed)
        var bench = Bench(terms: [1, 1], seed: seed)
        if seed % 2 == 0 { bench.lead() }
        for step in 0..<400 {
            let term: Term =
                switch random.next() % 10 {
                case 0: Self.number(&random)
                case 1: bench.core.term + 1
                default: bench.core.term
                }
            bench.receive(2 + Int(random.next() % 3), term: term, Self.body(for: bench.core, &random))
            if random.next() % 3 == 0 { bench.persist() }
            if random.next() % 3 == 0 { bench.apply() }
            if random.next() % 4 == 0 { bench.tick(random.next() % 30) }
            if step % 10 == 0 { bench.propose(Token(step)) }
            if step % 15 == 0 { bench.step(.read([Token(10_000 + step)])) }
            if bench.core.violation != nil { bench = Bench(terms: [1, 1], seed: seed &+ UInt64(step)) }
            if random.next() % 20 == 0 { bench.lead(committed: random.next() % 2 == 0) }
        }
    }

    @Test("R47: terms from beyond every real cluster are ignored")
    func hugeTerms() {
        var follower = Bench()
        let before = follower.core
        #expect(follower.heartbeat(term: .max).isEmpty)
        #expect(follower.core == before)
    }
}
