import Testing

/// The rules that the design sets for the sources, held against the sources themselves.
@Suite("House rules")
struct HouseRulesTests {
    /// What each target may import of this repository: only what stands below it.
    private static let rooms: [String: Set<String>] = [
        "CLMDB": [], "CChecksum": [], "CWriteback": [],
        "Observability": [],
        "Raft": [],
        "RaftDriver": ["Raft"],
        "Linearizability": [],
        "Simulation": ["Raft", "RaftDriver", "Linearizability"],
        "LMDB": ["CLMDB"],
        "Checksum": ["CChecksum"],
        "KeyValue": ["LMDB", "Checksum"],
        "RaftStorage": ["Raft", "LMDB", "Checksum", "CWriteback"],
        "RaftTransport": ["Raft", "Checksum"],
        "RaftNode": ["Raft", "RaftDriver", "RaftStorage", "RaftTransport", "Observability"],
        "KeyValueService": ["KeyValue", "Raft", "RaftNode", "RaftStorage"],
        "HTTPAPI": ["KeyValueService", "KeyValue", "Raft", "RaftNode", "Observability", "Checksum"],
        "KontikiClient": ["Checksum"],
        "DataDirectory": ["KeyValue", "LMDB", "Raft", "RaftStorage"],
        "kontiki": [
            "Checksum", "Observability", "HTTPAPI", "DataDirectory", "KeyValueService", "KeyValue", "KontikiClient",
            "LMDB", "Raft",
            "RaftDriver",
            "RaftNode",
            "Simulation",
            "Linearizability",
        ],
    ]

    @Test("There are sources to look at, and every room is known")
    func everyRoomIsKnown() {
        #expect(SourceTree.sources.count > 50)
        #expect(SourceTree.tests.count > 10)
        #expect(Set(SourceTree.sources.map(\.target)).subtracting(Self.rooms.keys).isEmpty)
    }

    @Test("Imports go only downwards")
    func importsGoDown() {
        for file in SourceTree.sources {
            let allowed = Self.rooms[file.target] ?? []
            for (module, line) in file.imports where Self.rooms[module] != nil {
                #expect(allowed.contains(module), "\(file.path):\(line) imports \(module)")
            }
        }
    }

    @Test("The Raft core, the driver and their simulator import nothing but swift-collections")
    func coreIsPure() {
        let allowed: Set = ["DequeModule", "OrderedCollections", "HeapModule", "BitCollections", "HashTreeCollections"]
        let pure: Set = ["Raft", "RaftDriver", "Linearizability", "Simulation"]
        for file in SourceTree.sources where pure.contains(file.target) {
            for (module, line) in file.imports where Self.rooms[module] == nil {
                #expect(allowed.contains(module), "\(file.path):\(line) imports \(module)")
            }
        }
    }

    @Test("The key-value model knows no NIO, no Foundation, no logging and no storage")
    func modelIsPure() {
        for file in SourceTree.sources where file.path.hasPrefix("Sources/KeyValue/Model/") {
            for (module, line) in file.imports {
                let isForeign = ["NIO", "Foundation", "Logging", "Dispatch", "LMDB"].contains {
                    module.hasPrefix($0)
                }
                #expect(!isForeign, "\(file.path):\(line) imports \(module)")
            }
        }
    }

    @Test("Foundation stays out of the lower rooms, and only the executable may use more than its essentials")
    func foundationStaysOut() {
        let without: Set = ["Raft", "KeyValue", "LMDB", "RaftStorage", "Checksum"]
        for file in SourceTree.sources where file.target != "kontiki" {
            for (module, line) in file.imports where module.hasPrefix("Foundation") {
                let isAllowed = module == "FoundationEssentials" && !without.contains(file.target)
                #expect(isAllowed, "\(file.path):\(line) imports \(module)")
            }
        }
    }

    @Test("Only the executable reads arguments and environment, and sets up logging and metrics")
    func configurationEntersAtTheTop() {
        let pieces = [
            "CommandLine.", "ProcessInfo", "getenv(", "secure_getenv(", "LoggingSystem.bootstrap",
            "MetricsSystem.bootstrap",
        ]
        for file in SourceTree.sources where file.target != "kontiki" {
            for piece in pieces { #expect(file.places(of: piece) == [], "\(piece)") }
        }
    }

    @Test("No file is beyond 500 lines")
    func filesAreShort() {
        for file in SourceTree.sources + SourceTree.tests {
            #expect(file.lines.count <= 501, "\(file.path) has \(file.lines.count - 1) lines")
        }
    }

    @Test("No function is beyond 70 lines")
    func functionsAreShort() {
        var count = 0
        for file in SourceTree.sources + SourceTree.tests {
            for function in file.functions {
                count += 1
                #expect(
                    function.length <= 70,
                    "\(file.path):\(function.line) \(function.name) has \(function.length) lines"
                )
            }
        }
        #expect(count > 500, "the scanner sees functions")
    }

    @Test("What the compiler is told to trust has a comment that says why it may")
    func trustIsExplained() {
        for file in SourceTree.sources {
            for (index, line) in file.code.enumerated() {
                guard line.contains("nonisolated(unsafe)") || line.contains("@unchecked Sendable") else { continue }
                let neighbours = [index - 1, index + 1].filter(file.lines.indices.contains).map { file.lines[$0] }
                let isExplained = neighbours.contains { $0.drop { $0 == " " }.hasPrefix("//") }
                #expect(isExplained, "\(file.path):\(index + 1)")
            }
        }
    }

    @Test("Nothing is left open, and nothing traps on what comes from outside")
    func nothingIsLeftOpen() {
        let words = ["TO" + "DO", "FIX" + "ME", "X" + "XX"]
        for file in SourceTree.sources + SourceTree.tests {
            for (index, line) in file.lines.enumerated() {
                for word in words { #expect(!line.contains(word), "\(file.path):\(index + 1)") }
            }
            for piece in ["try!", "fatalError(", " as! "] { #expect(file.places(of: piece) == [], "\(piece)") }
        }
        for file in SourceTree.sources {
            #expect(file.places(of: "assert(") == [], "a release build would not check it")
        }
    }

    @Test("No closure is by itself what a lock guards: each look at it would wrap it once more")
    func closuresAreNotGuardedBare() {
        for file in SourceTree.sources + SourceTree.tests {
            for (index, line) in file.code.enumerated() where line.contains("Mutex<") || line.contains("Guarded<") {
                #expect(!line.contains(/(Mutex|Guarded)<\(*(@|\([^<>]*\) *->)/), "\(file.path):\(index + 1)")
            }
        }
    }

    @Test("Nothing is built without checks")
    func checksStay() {
        let flag = "-O" + "unchecked"
        let scripts = SourceTree.paths(below: "Deploy") + SourceTree.paths(below: ".ci")
        for path in scripts + ["Package.swift"] { #expect(!SourceTree.text(path).contains(flag), "\(path)") }
    }

    @Test("No test is switched off")
    func testsRun() {
        for file in SourceTree.tests {
            for piece in [".disabled(", "withKnownIssue", "XCTSkip"] {
                #expect(file.places(of: piece) == [], "\(piece)")
            }
        }
    }
}
