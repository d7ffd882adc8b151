import Foundation
import Simulation

/// A scenario file: prose, and blocks of commands with what they are expected to print.
///
/// The first line of prose is the title, a line `# Rules: R1 R2` names the rules it shows. A block is one or more lines of commands, a
/// line `----`, and lines of output up to the next empty line.
struct Transcript {
    struct Block {
        /// The number of the first command's line, from 1 on.
        var line: Int
        var commands: [String]
        var expected: [String]
    }

    enum Part {
        case prose(String)
        case block(Block)
    }

    var name: String
    var parts: [Part] = []

    init(name: String, text: String) throws {
        self.name = name
        var rest = text.components(separatedBy: "\n")[...]
        if rest.last == "" { rest.removeLast() }
        while let line = rest.first {
            if line.isEmpty || line.hasPrefix("#") {
                parts.append(.prose(line))
                rest.removeFirst()
                continue
            }
            let number = rest.startIndex + 1
            let commands = Array(rest.prefix { $0 != "----" && !$0.isEmpty })
            rest = rest.dropFirst(commands.count)
            guard rest.first == "----" else { throw Broken("\(name):\(number): commands without a line ---- behind") }
            let expected = Array(rest.dropFirst().prefix { !$0.isEmpty })
            rest = rest.dropFirst(expected.count + 1)
            parts.append(.block(Block(line: number, commands: commands, expected: expected)))
        }
    }

    var prose: [String] {
        parts.compactMap { if case .prose(let line) = $0 { line } else { nil } }
    }

    var blocks: [Block] {
        parts.compactMap { if case .block(let block) = $0 { block } else { nil } }
    }

    /// The first line of prose.
    var title: String { String((prose.first ?? "").drop { $0 == "#" || $0 == " " }) }

    /// The rules that the scenario says it shows.
    var rules: [String] {
        let prefix = "# Rules: "
        return prose.first { $0.hasPrefix(prefix) }?.dropFirst(prefix.count).split(separator: " ").map(String.init)
            ?? []
    }

    /// The file with what was really printed in the place of what was expected.
    func text(with outputs: [[String]]) -> String {
        var outputs = outputs[...]
        var lines: [String] = []
        for part in parts {
            switch part {
            case .prose(let line): lines.append(line)
            case .block(let block): lines += block.commands + ["----"] + (outputs.popFirst() ?? block.expected)
            }
        }
        return lines.joined(separator: "\n") + "\n"
    }

    /// Where the outputs differ from what is expected, for a person to read; empty when they do not.
    func differences(from outputs: [[String]]) -> String {
        var report: [String] = []
        for (block, output) in zip(blocks, outputs) where block.expected != output {
            report.append("\(name):\(block.line): \(block.commands.joined(separator: "; "))")
            report += Self.difference(expected: block.expected, printed: output)
        }
        return report.joined(separator: "\n")
    }

    /// All lines in order: `-` was expected and is missing, `+` was printed and is new.
    static func difference(expected: [String], printed: [String]) -> [String] {
        var lines: [String] = []
        let changes = printed.difference(from: expected)
        var removed: Set<Int> = []
        var inserted: Set<Int> = []
        for change in changes {
            switch change {
            case .remove(let offset, _, _): removed.insert(offset)
            case .insert(let offset, _, _): inserted.insert(offset)
            }
        }
        var old = 0
        var new = 0
        while old < expected.count || new < printed.count {
            if old < expected.count, removed.contains(old) {
                lines.append("- " + expected[old])
                old += 1
            } else if new < printed.count, inserted.contains(new) {
                lines.append("+ " + printed[new])
                new += 1
            } else {
                lines.append("  " + expected[old])
                old += 1
                new += 1
            }
        }
        return lines
    }
}
