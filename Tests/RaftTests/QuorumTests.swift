import Foundation
import Testing

@testable import Raft

@Suite struct QuorumTests {
    init() { switchOnPlantedBug() }

    private static let ids = (1...5).map { server($0) }
    private static let subsets: [[ServerID]] = (0..<32).map { bits in
        ids.enumerated().filter { bits & (1 << $0.offset) != 0 }.map(\.element)
    }

    /// A configuration with these halves, joint where `outgoing` is not empty.
    private static func halves(_ voters: [ServerID], _ outgoing: [ServerID]) -> Configuration {
        let members = Set(voters + outgoing).map { Member(id: $0, name: $0.description, peerAddress: "") }
        return Configuration(members: members, voters: voters, outgoing: outgoing, learners: [], learnersNext: [])
    }

    private static func isMajority(_ count: Int, of half: [ServerID]) -> Bool { 2 * count > half.count }

    @Test("R27: the quorum index equals brute force, for every configuration of up to five servers, joint ones too")
    func reachedEqualsBruteForce() {
        var random = SeededRandom(seed: 27)
        for voters in Self.subsets {
            for outgoing in Self.subsets where !(voters.isEmpty && outgoing.isEmpty) {
                for _ in 0..<6 {
                    let values = Self.ids.map { _ in random.next() % 6 }
                    let value = { (id: ServerID) in values[Int(id.rawValue) - 1] }
                    // The largest index that a majority of each half has reached; 0 if none.
                    let expected = (UInt64(0)...6).last { index in
                        [voters, outgoing].allSatisfy { half in
                            half.isEmpty || Self.isMajority(half.count { value($0) >= index }, of: half)
                        }
                    }
                    let configuration = Self.halves(voters, outgoing)
                    let reached = Quorum.reached(configuration, by: value)
                    #expect(reached == expected, "\(configuration) \(values)")
                    guard reached == expected else { return }
                }
            }
        }
        #expect(Quorum.reached(.empty, by: { _ in 7 }) == 0)
    }

    @Test("R27: and so does the result of a vote, for every ballot")
    func voteEqualsBruteForce() {
        let choices: [Bool?] = [nil, false, true]
        for voters in Self.subsets {
            for outgoing in Self.subsets where !(voters.isEmpty && outgoing.isEmpty) {
                let configuration = Self.halves(voters, outgoing)
                for ballot in 0..<243 {
                    var digits = ballot
                    let votes = Self.ids.map { _ -> Bool? in
                        defer { digits /= 3 }
                        return choices[digits % 3]
                    }
                    let vote = { (id: ServerID) in votes[Int(id.rawValue) - 1] }
                    func wins(countingMissing: Bool) -> Bool {
                        [voters, outgoing].allSatisfy { half in
                            half.isEmpty || Self.isMajority(half.count { vote($0) ?? countingMissing }, of: half)
                        }
                    }
                    let expected: Quorum.VoteResult =
                        wins(countingMissing: false) ? .won : wins(countingMissing: true) ? .pending : .lost
                    guard Quorum.result(configuration, vote: vote) != expected else { continue }
                    Issue.record("\(configuration) \(votes): not \(expected)")
                    return
                }
            }
        }
        #expect(Quorum.result(.empty) { _ in true } == .lost)
    }

    // MARK: Vectors of etcd-io/raft

    /// `shared/vectors/raft-quorum` beside the repository, found from this file's place upward.
    private static let vectors: URL? = {
        var folder = URL(filePath: #filePath).resolvingSymlinksInPath().deletingLastPathComponent()
        while folder.path != "/" {
            let candidate = folder.appending(path: "shared/vectors/raft-quorum")
            if FileManager.default.fileExists(atPath: candidate.path) { return candidate }
            folder.deleteLastPathComponent()
        }
        return nil
    }()

    private struct Case {
        var command: String
        var arguments: [String: [String]]
        var expected: String
        var place: String
    }

    /// One test of etcd's data-driven files: a line of `command key=(values)…`, `----`, and what is expected.
    private static func cases(_ name: String) throws -> [Case] {
        let text = try String(contentsOf: try #require(vectors).appending(path: name), encoding: .utf8)
        let lines = text.components(separatedBy: "\n")
        var cases: [Case] = []
        for (number, line) in lines.enumerated() where line == "----" {
            let input = lines[number - 1]
            let output = lines[(number + 1)...].prefix { !$0.isEmpty }
            var arguments: [String: [String]] = [:]
            for match in input.matches(of: /(\w+)=(?:\(([^)]*)\)|(\w+))/) {
                let list = match.2 ?? match.3 ?? ""
                let values = list.split(whereSeparator: { $0 == "," || $0 == " " }).map(String.init)
                arguments[String(match.1)] = values
            }
            let command = input.prefix { $0 != " " }
            cases.append(
                Case(
                    command: String(command),
                    arguments: arguments,
                    expected: output.last ?? "",
                    place: "\(name):\(number)"
                )
            )
        }
        return cases
    }

    private static func parse(_ test: Case) -> (voters: [ServerID], outgoing: [ServerID], order: [ServerID]) {
        func ids(_ key: String) -> [ServerID] {
            (test.arguments[key] ?? []).compactMap { UInt64($0).map { ServerID($0) } }
        }
        let (voters, outgoing) = (ids("cfg"), ids("cfgj"))
        var order: [ServerID] = []
        for id in voters + outgoing where !order.contains(id) { order.append(id) }
        return (voters, outgoing, order)
    }

    @Test(
        "R27: committed indices agree with etcd-io/raft's vectors",
        .enabled(if: vectors != nil, "shared/vectors/raft-quorum is absent: it is no part of the repository"),
        arguments: ["majority_commit.txt", "joint_commit.txt"]
    )
    func committedVectors(file: String) throws {
        let cases = try Self.cases(file).filter { $0.command == "committed" }
        #expect(cases.count >= 8)
        for test in cases {
            let (voters, outgoing, order) = Self.parse(test)
            let indices = (test.arguments["idx"] ?? []).map { UInt64($0) ?? 0 }
            #expect(indices.count == order.count, "\(test.place)")
            let value = { (id: ServerID) in order.firstIndex(of: id).map { indices[$0] } ?? 0 }
            let reached = min(Quorum.reached(voters, by: value), Quorum.reached(outgoing, by: value))
            if test.expected.contains("∞") {
                #expect(reached == .max, "\(test.place)")
            } else {
                #expect(reached == UInt64(test.expected), "\(test.place)")
                #expect(Quorum.reached(Self.halves(voters, outgoing), by: value) == reached, "\(test.place)")
            }
        }
    }

    @Test(
        "R27: vote results agree with etcd-io/raft's vectors",
        .enabled(if: vectors != nil, "shared/vectors/raft-quorum is absent: it is no part of the repository"),
        arguments: ["majority_vote.txt", "joint_vote.txt"]
    )
    func voteVectors(file: String) throws {
        let results: [String: Quorum.VoteResult] = ["VoteWon": .won, "VotePending": .pending, "VoteLost": .lost]
        let cases = try Self.cases(file).filter { $0.command == "vote" }
        #expect(cases.count >= 8)
        for test in cases {
            let (voters, outgoing, order) = Self.parse(test)
            let votes = (test.arguments["votes"] ?? []).map { $0 == "y" ? true : $0 == "n" ? false : nil }
            #expect(votes.count == order.count, "\(test.place)")
            let vote = { (id: ServerID) -> Bool? in order.firstIndex(of: id).flatMap { votes[$0] } }
            let halves = [Quorum.result(voters, vote: vote), Quorum.result(outgoing, vote: vote)]
            let result: Quorum.VoteResult =
                halves.contains(.lost) ? .lost : halves.contains(.pending) ? .pending : .won
            #expect(result == results[test.expected], "\(test.place)")
            if !order.isEmpty {
                #expect(Quorum.result(Self.halves(voters, outgoing), vote: vote) == result, "\(test.place)")
            }
        }
    }
}
