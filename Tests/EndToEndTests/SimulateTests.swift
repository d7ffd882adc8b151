import Foundation
import Testing

extension EndToEndTests {
    @Suite("kontiki simulate") struct Simulate {
        private func run(_ arguments: String...) async throws -> (ending: Ending, output: String) {
            try await ChildProcess.run(Binary.path(), ["simulate"] + arguments)
        }

        private func hash(_ output: String) -> Substring? {
            output.split(separator: "\n").last { $0.hasPrefix("trace hash: ") }
        }

        @Test("A seed is the same run in two processes, traced or not") func sameHash() async throws {
            let first = try await run("--seed", "11", "--seconds", "5")
            let second = try await run("--seed", "11", "--seconds", "5", "--trace")
            let other = try await run("--seed", "12", "--seconds", "5")
            #expect(first.ending == .exited(0))
            #expect(second.ending == .exited(0))
            let known = try #require(hash(first.output))
            #expect(known.count == "trace hash: ".count + 16)
            #expect(hash(second.output) == known)
            #expect(hash(other.output) != known)
            #expect(second.output.contains("1 starts: term 0"), "\(second.output.prefix(500))")
        }

        @Test("Many seeds: what happened is counted, and 0 says that all held") func many() async throws {
            let (ending, output) = try await run("--seeds", "5", "--first-seed", "100", "--seconds", "3")
            #expect(ending == .exited(0))
            #expect(output.contains("5 seeds from 100 on"), "\(output)")
            #expect(output.contains("per second and core"), "\(output)")
            #expect(output.hasSuffix("every rule held\n"), "\(output)")
        }

        @Test("A disk that lies: named, made small, and the command that is printed plays it again")
        func replay() async throws {
            let (ending, output) = try await run(
                "--broken-disk",
                "lies",
                "--seeds",
                "40",
                "--first-seed",
                "1",
                "--seconds",
                "10"
            )
            #expect(ending == .exited(1))
            #expect(output.contains("BROKEN: the disk of server"), "\(output)")
            #expect(output.contains("smallest run that still breaks"), "\(output)")
            let line = try #require(output.split(separator: "\n").last)
            let words = line.replacing("'", with: "").split(separator: " ").map(String.init)
            #expect(words.starts(with: ["kontiki", "simulate", "--seed"]))
            let again = try await ChildProcess.run(Binary.path(), Array(words.dropFirst()))
            #expect(again.ending == .exited(1))
            #expect(again.output.contains("lies: it reported"), "\(again.output.suffix(500))")
            #expect(hash(again.output) != nil)
        }

        @Test(
            "Wrong usage is said",
            arguments: [
                ["--servers", "8"], ["--trace"], ["--seed", "1", "--seeds", "2"], ["--more", "storms"],
                ["--keep-faults", "x"], ["--loss", "1001"], ["--broken-disk", "melts"],
            ]
        )
        func usage(arguments: [String]) async throws {
            let (ending, _) = try await ChildProcess.run(Binary.path(), ["simulate"] + arguments)
            #expect(ending == .exited(64))
        }
    }
}
