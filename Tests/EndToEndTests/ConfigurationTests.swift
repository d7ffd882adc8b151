import Foundation
import KontikiClient
import Testing

extension EndToEndTests {
    @Suite("Options and words stand in one place") struct Configuration {
        private func kontiki(
            _ arguments: [String],
            _ environment: [String: String] = [:]
        ) async throws -> (ending: Ending, output: String) {
            try await ChildProcess.run(Binary.path(), arguments, environment: environment)
        }

        private func variable(_ option: String) -> String {
            "KONTIKI_" + option.uppercased().replacingOccurrences(of: "-", with: "_")
        }

        @Test("Each option that kontiki serve --help shows is taken from the environment", .timeLimit(.minutes(5)))
        func environment() async throws {
            let help = try await kontiki(["serve", "--help"]).output
            let options = help.split(separator: "\n").compactMap { line in
                line.firstMatch(of: /^  (?:-[a-z], )?--([a-z-]+)/).map { String($0.1) }
            }.filter { !["help", "version"].contains($0) }
            #expect(options.count >= 27, "\(options)")
            // Nothing says how to begin, so that no node starts.
            let base = [
                "KONTIKI_ID": "n", "KONTIKI_ADDR": "127.0.0.1:1", "KONTIKI_HTTP": "127.0.0.1:2",
                "KONTIKI_DATA": "/nowhere/n",
            ]
            let unset = try await kontiki(["serve"], base)
            #expect(unset.ending == .exited(78), "\(unset)")
            for option in options {
                // No option may have these values, but for a name of a directory or of a member.
                let value =
                    option == "id" ? String(repeating: "n", count: 200) : option == "data" ? "/nowhere/else" : "?"
                let run = try await kontiki(["serve"], base.merging([variable(option): value]) { $1 })
                switch option {
                case "data": #expect(run.ending == .exited(78) && run.output.contains(value), "\(option): \(run)")
                case "bootstrap": #expect(run.ending == .exited(64) && run.output.contains(variable(option)), "\(run)")
                default: #expect(run.ending == .exited(64) && run.output.contains("--" + option), "\(option): \(run)")
                }
            }
        }

        @Test("A variable that is an option but for a slip is refused by name; others are left alone")
        func slips() async throws {
            for (name, meant) in [
                ("KONTIKI_HISTORY_BITES", "KONTIKI_HISTORY_BYTES"), ("KONTIKI_HARTBEAT", "KONTIKI_HEARTBEAT"),
                ("KONTIKI_LOGLEVEL", "KONTIKI_LOG_LEVEL"), ("KONTIKI_BOOTSTRAPP", "KONTIKI_BOOTSTRAP"),
            ] {
                let run = try await kontiki(["serve", "--id", "n"], [name: "1"])
                #expect(run.ending == .exited(64) && run.output.contains(meant), "\(run)")
                #expect(run.output.contains(name), "\(run)")
            }
            let others = [
                "KONTIKI_PORT": "tcp://10.0.0.1:80", "KONTIKI_SERVICE_HOST": "10.0.0.1",
                "KONTIKI_PORT_80_TCP_ADDR": "x",
                "KONTIKI_BINARY": "x", "KONTIKI_ENDPOINTS": "x", "KONTIKI_TOKEN": "7", "KONTIKI_KEY": "k",
                "KONTIKI_LOCK": "l",
                "KONTIKI_FENCE": "l=7", "KONTIKI_EVENT": "put", "KONTIKI_REVISION": "7", "KONTIKI_DISK_DIR": "x",
            ]
            let arguments = [
                "serve", "--id", "n", "--addr", "127.0.0.1:1", "--http", "127.0.0.1:2", "--data", "/nowhere/n",
            ]
            #expect(try await kontiki(arguments, others).ending == .exited(78))
        }

        @Test("The client and the command line say the words that nodes take")
        func words() async throws {
            try await Cluster.run(nodes: 1) { cluster in
                let document = try await ChildProcess.run(
                    "/usr/bin/env",
                    ["curl", "-sS", "http://\(cluster.nodes[0].endpoint)/openapi.json"]
                )
                let api = try #require(
                    try JSONSerialization.jsonObject(with: Data(document.output.utf8)) as? [String: Any]
                )
                func words(_ path: String...) throws -> [String] {
                    var place: Any? = api["components"]
                    for part in path { place = (place as? [String: Any])?[part] }
                    return try #require(place as? [String])
                }
                let consistency = try words("parameters", "consistency", "schema", "enum")
                #expect(Set(consistency) == Set(Consistency.allCases.map(\.rawValue)))
                for word in try words("schemas", "Problem", "properties", "outcome", "enum") {
                    #expect(ClientError.Outcome(rawValue: word) != nil, "\(word)")
                }
                let help = try await kontiki(["txn", "--help"]).output.split { $0.isWhitespace || ",;".contains($0) }
                for word in try words("schemas", "Compare", "properties", "target", "enum")
                    + words("schemas", "Compare", "properties", "op", "enum")
                {
                    #expect(help.contains { $0 == word }, "\(word)")
                }
                // And every answer of a read can be as fresh as the options say.
                let endpoint = ["--endpoint", cluster.nodes[0].endpoint]
                try await cluster.client.put("a", [])
                for freshness in [
                    ["--consistency", "bounded", "--max-stale", "1m"], ["--min-rev", "1"], ["--rev", "1"],
                ] {
                    for command in [["get", "a"], ["list"], ["list", "--count"]] {
                        let run = try await kontiki(command + freshness + endpoint)
                        #expect(run.ending == .exited(0), "\(command + freshness): \(run)")
                    }
                }
                for freshness in [["--consistency", "bounded", "--max-stale", "1m"], ["--min-rev", "1"]] {
                    let run = try await kontiki(["export", "-"] + freshness + endpoint)
                    #expect(run.ending == .exited(0), "\(freshness): \(run)")
                }
            }
        }
    }
}
