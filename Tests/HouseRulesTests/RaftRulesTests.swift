import Testing

/// The rules R1 to R48, the tests that carry their names, and the proof that these can fail: the table of planted bugs.
///
/// The table is made by `Deploy/mutations.sh`, which switches each bug on and runs the tests; here it is held against the sources, so that no
/// rule, no bug and no test of either can go missing behind its back.
@Suite("Raft rules")
struct RaftRulesTests {
    private struct Row {
        var rule: String
        var bug: String
        /// What is broken.
        var text: String
        /// The name of the test that caught it.
        var test: String
        /// The seeds until the simulator broke.
        var seeds: String
    }

    private static let rules = (1...48).map { "R\($0)" }
    private static let table = SourceTree.text("Tests/MutationGate/MUTATIONS.md")
    private static let elsewhere = SourceTree.text("Tests/MutationGate/elsewhere.md")

    private static let rows: [Row] = table.split(separator: "\n").compactMap { line in
        guard let match = line.wholeMatch(of: /\| (R\d+) \| `(\w+)` \| (.*?) \| (.*?) \| (.*?) \| .*\|/) else {
            return nil
        }
        let test = match.4.replacing(#/ \((and \d+ more|stopped)\)/#, with: "")
        return Row(
            rule: String(match.1),
            bug: String(match.2),
            text: String(match.3),
            test: String(test),
            seeds: String(match.5)
        )
    }

    /// The names of the tests in a folder, with the targets that they stand in.
    private static let tests: [(target: String, name: String)] = SourceTree.tests.flatMap { file in
        SourceTree.text(file.path).matches(of: /@Test\(\s*"([^"]*)"/).map { (file.target, String($0.1)) }
    }

    /// Rules without a planted bug, each with the reason.
    private static let withoutBug: [String] = {
        guard let section = elsewhere.split(separator: "## Rules without a planted bug\n").dropFirst().first else {
            return []
        }
        let lines = section.split(separator: "\n").prefix { !$0.hasPrefix("## ") }
        return lines.compactMap { $0.prefixMatch(of: /- \*\*(R\d+)\*\*: \S+/).map { String($0.1) } }
    }()

    @Test("Each rule that applies has a test whose name carries it")
    func rulesHaveTests() {
        let names = Self.tests.filter { $0.target.hasPrefix("Raft") }.map(\.name)
        let named = Set(names.flatMap { $0.matches(of: /\bR[0-9]{1,2}\b/).map { String($0.output) } })
        // R35 says how leases would have to be counted; there are none, every strong read is confirmed by a quorum.
        #expect(Self.rules.filter { !named.contains($0) } == ["R35"])
    }

    @Test("A planted bug makes a test of each rule fail, or it is said why there is none")
    func rulesHaveBugs() {
        let shown = Set(Self.rows.filter { $0.test.hasPrefix($0.rule + ":") }.map(\.rule))
        #expect(Self.rules.filter { !shown.contains($0) } == Self.withoutBug)
    }

    @Test("The table holds every planted bug, with what catches it")
    func tableIsWhole() {
        var rule = ""
        var text = ""
        var planted: [[String]] = []
        for line in SourceTree.text("Sources/Raft/PlantedBug.swift").split(separator: "\n") {
            if let match = line.wholeMatch(of: #/ +/// (R\d+): (.*)/#) {
                (rule, text) = (String(match.1), String(match.2))
            } else if let match = line.wholeMatch(of: #/ +case (\w+)/#) {
                planted.append([rule, String(match.1), text])
            }
        }
        #expect(planted.count > 100)
        #expect(Self.rows.map { [$0.rule, $0.bug, $0.text] } == planted)
        let names = Set(Self.tests.filter { $0.target == "RaftTests" }.map(\.name))
        for row in Self.rows {
            let isCaught = row.test == "—" ? row.seeds != "—" : names.contains(row.test)
            #expect(isCaught, "\(row.bug): \(row.test)")
        }
    }

    @Test("Every planted bug is planted somewhere")
    func bugsAreUsed() {
        let code = SourceTree.sources.filter { ["Raft", "RaftDriver"].contains($0.target) }.flatMap(\.code)
        let used = Set(code.flatMap { $0.matches(of: /isPlanted\(\.(\w+)\)/).map { String($0.1) } })
        #expect(Self.rows.map(\.bug).filter { !used.contains($0) } == [])
    }

    @Test("What is held elsewhere is held by tests that exist, and the table ends with it")
    func elsewhereIsTrue() {
        #expect(Self.table.hasSuffix("\n" + Self.elsewhere))
        let suites = SourceTree.tests.map { SourceTree.text($0.path) }
        for match in Self.elsewhere.matches(of: /"([^"|]*)"/) {
            let isThere = suites.contains { $0.contains(match.1) }
            #expect(isThere, "\(match.1)")
        }
    }
}
