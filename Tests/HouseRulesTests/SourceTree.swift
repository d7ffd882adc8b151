import Foundation

/// The repository as it lies on the disk.
enum SourceTree {
    /// Found by this file's own path: Tests/HouseRulesTests/SourceTree.swift.
    static let root: URL = URL(fileURLWithPath: #filePath)
        .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()

    static let sources = files(below: "Sources")
    static let tests = files(below: "Tests")

    /// All Swift files below a folder, in the order of their paths.
    static func files(below folder: String) -> [SourceFile] {
        paths(below: folder).filter { $0.hasSuffix(".swift") }.map(SourceFile.init)
    }

    /// Paths of all files below a folder, relative to the root.
    static func paths(below folder: String) -> [String] {
        let base = root.appendingPathComponent(folder)
        guard let walk = FileManager.default.enumerator(atPath: base.path) else { return [] }
        return walk.compactMap { $0 as? String }
            .filter { path in
                var isDirectory: ObjCBool = false
                let full = base.appendingPathComponent(path).path
                return FileManager.default.fileExists(atPath: full, isDirectory: &isDirectory) && !isDirectory.boolValue
            }
            .sorted().map { folder + "/" + $0 }
    }

    static func text(_ path: String) -> String {
        (try? String(contentsOf: root.appendingPathComponent(path), encoding: .utf8)) ?? ""
    }
}

/// A Swift file, as it stands and without its comments and string literals.
struct SourceFile: Sendable {
    let path: String
    let lines: [String]
    /// The lines with comments and the contents of string literals blanked.
    let code: [String]

    init(path: String) {
        self.path = path
        let text = SourceTree.text(path)
        lines = text.components(separatedBy: "\n")
        code = SourceBlanker.blank(text).components(separatedBy: "\n")
    }

    /// The target it belongs to: the folder below Sources or Tests.
    var target: String { path.split(separator: "/").dropFirst().first.map(String.init) ?? "" }

    /// The modules it imports, with the numbers of the lines.
    var imports: [(module: String, line: Int)] {
        code.enumerated().compactMap { index, line in
            var words = line.split(separator: " ").filter { !$0.hasPrefix("@") }
            if let first = words.first, ["public", "package", "internal", "private", "fileprivate"].contains(first) {
                words.removeFirst()
            }
            guard words.first == "import", words.count >= 2 else { return nil }
            let kinds: Set<Substring> = ["struct", "class", "enum", "func", "var", "let", "typealias", "protocol"]
            let name = kinds.contains(words[1]) && words.count >= 3 ? words[2] : words[1]
            return (String(name.prefix { $0 != "." }), index + 1)
        }
    }

    /// Where a piece of code stands, as `path:line`.
    func places(of piece: String) -> [String] {
        code.enumerated().filter { $0.element.contains(piece) }.map { "\(path):\($0.offset + 1)" }
    }

    /// The functions with their lengths in lines, from the line of the name to the closing brace.
    var functions: [(name: String, line: Int, length: Int)] {
        var result: [(String, Int, Int)] = []
        for (index, line) in code.enumerated() {
            guard let name = Self.functionName(line), let end = endOfBody(from: index) else { continue }
            result.append((name, index + 1, end - index + 1))
        }
        return result
    }

    private static func functionName(_ line: String) -> String? {
        let words = line.split(whereSeparator: { " (<".contains($0) })
        if let position = words.firstIndex(of: "func"), words.count > position + 1 {
            return String(words[position + 1])
        }
        let trimmed = line.trimmingCharacters(in: .whitespaces)
        let modifiers = ["public ", "package ", "private ", "convenience ", "required ", "override ", "fileprivate "]
        let bare = modifiers.reduce(trimmed) { $0.hasPrefix($1) ? String($0.dropFirst($1.count)) : $0 }
        return ["init(", "init?(", "init<", "deinit {", "subscript("].first { bare.hasPrefix($0) }.map {
            String($0.dropLast())
        }
    }

    /// The line of the brace that closes the body which begins at or after `start`; nil where there is none.
    private func endOfBody(from start: Int) -> Int? {
        var (round, curly, seenParameters) = (0, 0, false)
        for index in start..<code.count {
            for character in code[index] {
                switch character {
                case "(": (round, seenParameters) = (round + 1, true)
                case ")": round -= 1
                case "{": curly += 1
                case "}":
                    curly -= 1
                    if curly == 0 && round == 0 { return index }
                    // A requirement of a protocol, or the last declaration before the end of a type.
                    if curly < 0 { return nil }
                default: break
                }
            }
            let next = index + 1 < code.count ? code[index + 1].trimmingCharacters(in: .whitespaces) : ""
            let goesOn = ["{", "where", "->", "async", "throws"].contains { next.hasPrefix($0) }
            if curly == 0 && round == 0 && (seenParameters || index > start) && !goesOn { return nil }
        }
        return nil
    }
}
