import Testing

@testable import Raft

@Suite struct CodecTests {
    private static func someMember(_ id: UInt64, _ random: inout SeededRandom) -> Member {
        let texts = ["", "a", "knoten-ü", "10.0.0.1:4000", String(repeating: "x", count: 300)]
        let promotions: [Member.Promotion] = [.manual, .voter, .replacing(ServerID(random.next()))]
        return Member(
            id: ServerID(id),
            name: texts[Int(random.next() % 5)],
            peerAddress: texts[Int(random.next() % 5)],
            clientAddress: texts[Int(random.next() % 5)],
            promotion: promotions[Int(random.next() % 3)]
        )
    }

    private static func someConfiguration(_ random: inout SeededRandom) -> Configuration {
        let members = (1...5).map { someMember(UInt64($0), &random) }
        func pick(_ random: inout SeededRandom) -> Configuration {
            var (voters, learners) = ([Member](), [Member]())
            for member in members {
                switch random.next() % 3 {
                case 0: voters.append(member)
                case 1: learners.append(member)
                default: break
                }
            }
            return Configuration(voters: voters, learners: learners)
        }
        let first = pick(&random)
        let second = pick(&random)
        return random.next() % 2 == 0 && !first.voters.isEmpty ? first.joint(to: second) : first
    }

    @Test("Configurations survive their encoding, joint ones too")
    func configurationRoundTrip() {
        var random = SeededRandom(seed: 1)
        for _ in 0..<500 {
            let configuration = Self.someConfiguration(&random)
            #expect(Configuration(decoding: configuration.encode()) == configuration)
        }
        #expect(Configuration(decoding: Configuration.empty.encode()) == .empty)
    }

    @Test("Payloads survive their encoding, and their size is what it says")
    func payloadRoundTrip() {
        var random = SeededRandom(seed: 2)
        let payloads: [Entry.Payload] = [
            .noop, .command([]), .command([1, 2, 3]), .configuration(Self.someConfiguration(&random)),
        ]
        for payload in payloads {
            let (kind, bytes) = payload.encoded
            #expect(Entry.Payload(kind: kind, bytes: bytes) == payload)
        }
        #expect(Entry.Payload.command([1, 2, 3]).size == Entry.Payload.overhead + 3)
        #expect(Entry.Payload(kind: 0, bytes: [1]) == nil)
        #expect(Entry.Payload(kind: 3, bytes: []) == nil)
        #expect(Entry.Payload(kind: 2, bytes: [1, 2]) == nil)
    }

    @Test("Whatever a decoder accepts encodes to the same bytes again, and nothing traps it")
    func fuzz() {
        var random = SeededRandom(seed: 3)
        var accepted = 0
        for _ in 0..<5000 {
            var bytes = Self.someConfiguration(&random).encode()
            for _ in 0...(random.next() % 3) where !bytes.isEmpty {
                let place = Int(random.next() % UInt64(bytes.count))
                switch random.next() % 4 {
                case 0: bytes[place] = UInt8(truncatingIfNeeded: random.next())
                case 1: bytes[place] ^= 1 << (random.next() % 8)
                case 2: bytes.removeLast(min(bytes.count, 1 + Int(random.next() % 4)))
                default: bytes.append(UInt8(truncatingIfNeeded: random.next()))
                }
            }
            guard let configuration = Configuration(decoding: bytes) else { continue }
            accepted += 1
            #expect(configuration.encode() == bytes)
        }
        #expect(accepted > 100, "some changes fall into names and do no harm")
    }

    @Test("Every prefix of an encoding is refused")
    func prefixes() {
        let bytes = configuration([1, 2, 3], learners: [4]).encode()
        for count in bytes.indices { #expect(Configuration(decoding: bytes.prefix(count)) == nil) }
    }

    @Test("Encoded configurations are stored for years: their bytes stay as they are")
    func goldenBytes() {
        let member = Member(
            id: ServerID(0x0102),
            name: "a",
            peerAddress: "b:1",
            clientAddress: "c",
            promotion: .replacing(ServerID(3))
        )
        let expected: [UInt8] = [
            1, 1, 0, 2, 1, 0, 0, 0, 0, 0, 0, 1, 2, 3, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0x61, 3, 0, 0x62, 0x3a, 0x31, 1, 0,
            0x63,
        ]
        #expect(Configuration(voters: [member]).encode() == expected)
    }

    @Test("A joint configuration names everybody once and leads where it was going")
    func jointConfigurations() {
        var random = SeededRandom(seed: 4)
        for _ in 0..<500 {
            let joint = Self.someConfiguration(&random)
            let all = Set(joint.voters + joint.outgoing + joint.learners + joint.learnersNext)
            #expect(joint.members.map(\.id) == all.sorted())
            #expect(Set(joint.learners).isDisjoint(with: joint.voters + joint.outgoing))
            #expect(Set(joint.learnersNext).isSubset(of: joint.outgoing))
            #expect(Set(joint.learnersNext).isDisjoint(with: joint.voters))
            guard joint.isJoint else { continue }
            let left = joint.leavingJoint()
            #expect(!left.isJoint && left.voters == joint.voters)
            #expect(left.learners == (joint.learners + joint.learnersNext).sorted())
            #expect(left.members.map(\.id) == (left.voters + left.learners).sorted())
        }
    }
}
