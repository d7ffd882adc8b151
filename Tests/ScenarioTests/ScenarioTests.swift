import Foundation
import Simulation
import Testing

@Suite("Scenario transcripts")
struct ScenarioTests {
    static let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
    static let transcripts = folder.appendingPathComponent("Transcripts")

    static let names: [String] =
        ((try? FileManager.default.contentsOfDirectory(atPath: transcripts.path)) ?? [])
        .filter { $0.hasSuffix(".txt") }.sorted()

    static func transcript(_ name: String) throws -> Transcript {
        let text = try String(contentsOf: transcripts.appendingPathComponent(name), encoding: .utf8)
        return try Transcript(name: name, text: text)
    }

    @Test("A transcript prints what it says it prints", arguments: names)
    func transcript(name: String) throws {
        let transcript = try Self.transcript(name)
        var scenario = Scenario()
        var outputs: [[String]] = []
        for block in transcript.blocks {
            do {
                outputs.append(try scenario.run(block))
            } catch let broken as Broken {
                throw Broken("\(name):\(block.line): \(broken.description)")
            }
        }
        if ProcessInfo.processInfo.environment["KONTIKI_REWRITE_TRANSCRIPTS"] == "1" {
            let url = Self.transcripts.appendingPathComponent(name)
            try transcript.text(with: outputs).write(to: url, atomically: true, encoding: .utf8)
        } else {
            let differences = transcript.differences(from: outputs)
            #expect(differences.isEmpty, "\n\(differences)")
        }
    }

    @Test("There are transcripts of the classic situations, each with a title and its rules", arguments: names)
    func headers(name: String) throws {
        let transcript = try Self.transcript(name)
        #expect(Self.names.count >= 28)
        #expect(!transcript.title.isEmpty)
        #expect(!transcript.rules.isEmpty)
        #expect(transcript.rules.allSatisfy { $0.wholeMatch(of: /R[0-9]+|§[0-9.]+/) != nil })
        #expect(!transcript.blocks.isEmpty)
    }

    @Test("The README's index names every transcript with its title and its rules, and no other")
    func index() throws {
        let readme = try String(contentsOf: Self.folder.appendingPathComponent("README.md"), encoding: .utf8)
        let rows = readme.components(separatedBy: "\n").filter { $0.hasPrefix("| [") }
        let wanted = try Self.names.map { name in
            let transcript = try Self.transcript(name)
            let rules = transcript.rules.joined(separator: " ")
            return "| [\(name.dropLast(4))](Transcripts/\(name)) | \(transcript.title) | \(rules) |"
        }
        #expect(rows.sorted() == wanted.sorted())
    }
}
