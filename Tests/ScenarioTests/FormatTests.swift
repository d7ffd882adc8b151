import Foundation
import Simulation
import Testing

/// The runner itself: what it refuses, and that it notices what a transcript does not say.
@Suite("Scenario format")
struct FormatTests {
    private func run(_ commands: String...) throws -> [String] {
        var scenario = Scenario()
        return try scenario.run(Transcript.Block(line: 1, commands: commands, expected: []))
    }

    @Test("A transcript that is written out with its own outputs is the same file", arguments: ScenarioTests.names)
    func roundTrip(name: String) throws {
        let url = ScenarioTests.transcripts.appendingPathComponent(name)
        let transcript = try ScenarioTests.transcript(name)
        #expect(
            try String(contentsOf: url, encoding: .utf8) == transcript.text(with: transcript.blocks.map(\.expected))
        )
    }

    @Test("Prose, rules, commands and outputs are told apart")
    func parts() throws {
        let text = "# A title\n# Rules: R1 R2\n\nfirst\nsecond\n----\n  one\ntwo\n\n# More\n\nthird\n----\nok\n"
        let transcript = try Transcript(name: "x", text: text)
        #expect(transcript.title == "A title")
        #expect(transcript.rules == ["R1", "R2"])
        #expect(transcript.blocks.map(\.commands) == [["first", "second"], ["third"]])
        #expect(transcript.blocks.map(\.expected) == [["  one", "two"], ["ok"]])
        #expect(transcript.blocks.map(\.line) == [4, 12])
    }

    @Test("Commands without an end are an error that names the line")
    func missingEnd() {
        #expect(throws: Broken.self) { try Transcript(name: "x", text: "# A title\ncluster 3\n\n# More\n") }
    }

    @Test(
        "What is not understood is an error and never passed over",
        arguments: [
            "fly 1", "tick", "tick x", "status 9", "deliver 1->2 append", "campaign 1 now", "cluster 3 wings 2",
            "persist 1",
            "deliver 1-2", "send 1->2 append t2 prev", "disk 1 warm", "compact 1 7", "restart 1",
        ]
    )
    func nonsense(command: String) {
        #expect(throws: Broken.self) { try run("cluster 3", command) }
    }

    @Test("A scenario begins with a cluster")
    func beginning() {
        #expect(throws: Broken.self) { try run("tick 1") }
    }

    @Test("A difference is shown line by line, with the place and the commands")
    func differences() throws {
        let transcript = try Transcript(name: "x", text: "# A title\n\na\nb\n----\none\ntwo\nthree\n")
        #expect(transcript.differences(from: [["one", "two", "three"]]) == "")
        #expect(
            transcript.differences(from: [["one", "2", "three", "four"]])
                == "x:3: a; b\n  one\n- two\n+ 2\n  three\n+ four"
        )
    }

    @Test("Two leaders of one term are noticed, though every line was expected")
    func twoLeaders() {
        #expect {
            try run(
                "cluster 5 disks fast",
                "campaign 1",
                "campaign 2",
                "quietly deliver all",
                "quietly deliver all",
                "send 3->1 vote t2 granted",
                "send 4->1 vote t2 granted",
                "send 3->2 vote t2 granted",
                "send 4->2 vote t2 granted"
            )
        } throws: { "\($0)".contains("term 2 has two leaders") }
    }

    @Test("Two different entries committed at one index are noticed")
    func twoHistories() {
        #expect {
            try run(
                "cluster 3 disks fast",
                "server 2 log 1.1 2.2",
                "server 3 log 1.1 1.2",
                "send 1->2 heartbeat t3 commit 2",
                "send 1->3 heartbeat t3 commit 2"
            )
        } throws: { "\($0)".contains("commits another entry at 2") }
    }
}
