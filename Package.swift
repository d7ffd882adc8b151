// swift-tools-version: 6.2
import PackageDescription

/// The thread sanitizer's run names the test targets to build (see the end); it wants a lock that it can see into.
let sanitizedTargets = Context.environment["KONTIKI_TEST_TARGETS"]

/// Builds with bugs that tests can switch on, and only what looks for them; see `Sources/Raft/PlantedBug.swift`. Nothing else contains them.
let plantsBugs = Context.environment["KONTIKI_PLANTED_BUGS"] != nil

let house: [SwiftSetting] =
    [
        .swiftLanguageMode(.v6),
        .enableUpcomingFeature("ExistentialAny"),
        .enableUpcomingFeature("MemberImportVisibility"),
        .enableUpcomingFeature("InternalImportsByDefault"),
        .treatAllWarnings(as: .error),
    ] + (sanitizedTargets == nil ? [] : [.define("KONTIKI_THREAD_SANITIZER")])
    + (plantsBugs ? [.define("KONTIKI_PLANTED_BUGS")] : [])

let nio = "swift-nio"

func library(_ name: String, _ dependencies: [Target.Dependency] = []) -> Target {
    .target(name: name, dependencies: dependencies, swiftSettings: house)
}

func tests(_ name: String, _ dependencies: [Target.Dependency], exclude: [String] = []) -> Target {
    .testTarget(name: name, dependencies: dependencies, exclude: exclude, swiftSettings: house)
}

let package = Package(
    name: "kontiki",
    platforms: [.macOS(.v15)],
    products: [
        .executable(name: "kontiki", targets: ["kontiki"]),
        .library(name: "Raft", targets: ["Raft"]),
        .library(name: "RaftNode", targets: ["RaftNode", "RaftDriver"]),
        .library(name: "KontikiClient", targets: ["KontikiClient"]),
        // Tests preload it into nodes; nothing links it.
        .library(name: "DiskRecorder", type: .dynamic, targets: ["DiskRecorder"]),
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-collections", from: "1.3.0"),
        .package(url: "https://github.com/apple/swift-nio", from: "2.101.0"),
        .package(url: "https://github.com/apple/swift-log", from: "1.14.0"),
        .package(url: "https://github.com/apple/swift-metrics", from: "2.7.0"),
        .package(url: "https://github.com/apple/swift-crypto", from: "4.5.0"),
        .package(url: "https://github.com/apple/swift-http-types", from: "1.8.0"),
        .package(url: "https://github.com/apple/swift-nio-extras", from: "1.34.1"),
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.0"),
        .package(url: "https://github.com/hummingbird-project/hummingbird", from: "2.28.0", traits: []),
        .package(url: "https://github.com/swift-server/async-http-client", from: "1.30.0"),
        .package(url: "https://github.com/swift-server/swift-service-lifecycle", from: "2.10.0"),
    ],
    targets: [
        .systemLibrary(name: "CLMDB", pkgConfig: "lmdb", providers: [.apt(["liblmdb-dev"]), .brew(["lmdb"])]),
        library("LMDB", ["CLMDB"]),
        .target(name: "CChecksum"),
        .target(name: "CWriteback"),
        library("Checksum", ["CChecksum"]),
        library(
            "Raft",
            [
                .product(name: "DequeModule", package: "swift-collections")
            ]
        ),
        library("RaftDriver", ["Raft", .product(name: "DequeModule", package: "swift-collections")]),
        library("Linearizability"),
        library("Observability", [.product(name: "CoreMetrics", package: "swift-metrics")]),
        library(
            "Simulation",
            [
                "Raft", "RaftDriver", "Linearizability",
                .product(name: "DequeModule", package: "swift-collections"),
                .product(name: "HeapModule", package: "swift-collections"),
            ]
        ),
        library(
            "RaftStorage",
            ["Raft", "LMDB", "Checksum", "CWriteback", .product(name: "Crypto", package: "swift-crypto")]
        ),
        library(
            "RaftTransport",
            [
                "Raft", "Checksum",
                .product(name: "DequeModule", package: "swift-collections"),
                .product(name: "Logging", package: "swift-log"),
                .product(name: "NIOCore", package: nio),
                .product(name: "NIOPosix", package: nio),
            ]
        ),
        library(
            "RaftNode",
            [
                "Raft", "RaftDriver", "RaftStorage", "RaftTransport", "Observability",
                .product(name: "DequeModule", package: "swift-collections"),
                .product(name: "Logging", package: "swift-log"),
                .product(name: "NIOCore", package: nio),
                .product(name: "NIOPosix", package: nio),
            ]
        ),
        library(
            "KeyValue",
            [
                "LMDB", "Checksum", .product(name: "Crypto", package: "swift-crypto"),
                .product(name: "DequeModule", package: "swift-collections"),
                .product(name: "HeapModule", package: "swift-collections"),
            ]
        ),
        library(
            "KeyValueService",
            [
                "KeyValue", "Raft", "RaftNode",
                .product(name: "NIOCore", package: nio),
                .product(name: "NIOPosix", package: nio),
            ]
        ),
        library("DataDirectory", ["KeyValue", "LMDB", "Raft", "RaftStorage"]),
        library(
            "HTTPAPI",
            [
                "KeyValueService", "KeyValue", "Raft", "RaftNode", "Observability",
                .product(name: "Crypto", package: "swift-crypto"),
                .product(name: "HTTPTypes", package: "swift-http-types"),
                .product(name: "Hummingbird", package: "hummingbird"),
                .product(name: "HummingbirdCore", package: "hummingbird"),
                .product(name: "Logging", package: "swift-log"),
                .product(name: "NIOCore", package: nio),
                .product(name: "NIOHTTP1", package: nio),
                .product(name: "NIOHTTPTypes", package: "swift-nio-extras"),
                .product(name: "NIOHTTPTypesHTTP1", package: "swift-nio-extras"),
                .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"),
            ]
        ),
        library(
            "KontikiClient",
            [
                .product(name: "AsyncHTTPClient", package: "async-http-client"),
                .product(name: "NIOCore", package: nio),
                .product(name: "NIOFoundationCompat", package: nio),
                .product(name: "NIOHTTP1", package: nio),
                .product(name: "NIOPosix", package: nio),
            ]
        ),
        .executableTarget(
            name: "kontiki",
            dependencies: [
                "HTTPAPI", "DataDirectory", "KeyValueService", "KontikiClient", "Observability", "RaftNode",
                "RaftDriver", "KeyValue",
                "LMDB", "Raft",
                "Linearizability", "Simulation",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
                .product(name: "CoreMetrics", package: "swift-metrics"),
                .product(name: "Logging", package: "swift-log"),
                .product(name: "NIOCore", package: nio),
                .product(name: "NIOPosix", package: nio),
                .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"),
            ],
            swiftSettings: house
        ),
        tests(
            "ObservabilityTests",
            ["Observability", .product(name: "CoreMetrics", package: "swift-metrics")]
        ),
        tests("LMDBTests", ["LMDB"]),
        tests("RaftTests", ["Simulation", "RaftDriver", "Raft"]),
        tests("ScenarioTests", ["Raft", "Simulation"], exclude: ["README.md", "Transcripts"]),
        tests("LinearizabilityTests", ["Linearizability"]),
        tests("SimulationTests", ["Simulation", "Linearizability", "RaftDriver", "Raft"]),
        tests(
            "RaftStorageTests",
            ["RaftStorage", "Raft", "LMDB", "Checksum", .product(name: "Crypto", package: "swift-crypto")]
        ),
        tests(
            "RaftTransportTests",
            [
                "RaftTransport", "Raft",
                .product(name: "Logging", package: "swift-log"),
                .product(name: "NIOCore", package: nio),
                .product(name: "NIOPosix", package: nio),
            ]
        ),
        tests(
            "RaftNodeTests",
            [
                "RaftNode", "RaftDriver", "RaftTransport", "Raft",
                .product(name: "Logging", package: "swift-log"),
                .product(name: "NIOCore", package: nio),
                .product(name: "NIOPosix", package: nio),
            ]
        ),
        tests(
            "KeyValueServiceTests",
            [
                "KeyValueService", "KeyValue", "Raft", "RaftNode",
                .product(name: "Logging", package: "swift-log"),
                .product(name: "NIOCore", package: nio),
                .product(name: "NIOPosix", package: nio),
            ]
        ),
        // What the state must hold, said plainly: for tests.
        .target(name: "KeyValueModel", dependencies: ["KeyValue"], path: "Tests/KeyValueModel", swiftSettings: house),
        tests("KeyValueTests", ["KeyValue", "KeyValueModel", "Checksum", "LMDB"]),
        tests(
            "HTTPAPITests",
            [
                "HTTPAPI", "KeyValueService", "KeyValue", "Raft", "RaftNode",
                .product(name: "HummingbirdCore", package: "hummingbird"),
                .product(name: "Logging", package: "swift-log"),
                .product(name: "NIOCore", package: nio),
                .product(name: "NIOPosix", package: nio),
                .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"),
            ]
        ),
        tests(
            "EndToEndTests",
            [
                "KontikiClient", "KeyValue", "Linearizability", "LMDB", "Checksum", "PowerCut", "disk-fault-node",
                .product(name: "NIOCore", package: nio),
                .product(name: "NIOPosix", package: nio),
            ]
        ),
        .executableTarget(
            name: "disk-fault-node",
            dependencies: [
                "KeyValueService", "KeyValue", "RaftNode", "RaftDriver", "Raft",
                .product(name: "Logging", package: "swift-log"),
                .product(name: "NIOCore", package: nio),
                .product(name: "NIOPosix", package: nio),
            ],
            path: "Tests/DiskFaultNode",
            swiftSettings: house
        ),
        .target(name: "DiskRecorder", path: "Tests/DiskRecorder", exclude: ["README.md"]),
        .target(
            name: "PowerCut",
            dependencies: [
                "Checksum", "KeyValue", "KeyValueModel", "KeyValueService", "LMDB", "Raft", "RaftDriver", "RaftNode",
                "RaftStorage",
                .product(name: "Logging", package: "swift-log"),
                .product(name: "NIOCore", package: nio),
                .product(name: "NIOPosix", package: nio),
            ],
            path: "Tests/PowerCut",
            swiftSettings: house
        ),
        .executableTarget(
            name: "power-cut",
            dependencies: ["PowerCut"],
            path: "Tests/PowerCutTool",
            swiftSettings: house
        ),
        tests("PowerCutTests", ["PowerCut"]),
        tests("DiskRecorderTests", ["PowerCut"]),
        .executableTarget(
            name: "bit-rot",
            dependencies: [
                "DataDirectory", "KeyValue", "KeyValueService", "Raft", "RaftDriver", "RaftNode", "RaftStorage",
                .product(name: "Logging", package: "swift-log"),
                .product(name: "NIOPosix", package: nio),
            ],
            path: "Tests/BitRot",
            swiftSettings: house
        ),
        tests("BitRotTests", ["bit-rot"]),
        tests("HouseRulesTests", []),
    ]
)

// Plays seeds of the simulator with planted bugs; see Deploy/mutations.sh.
if plantsBugs {
    package.targets.append(
        .executableTarget(
            name: "mutation-gate",
            dependencies: ["Simulation", "Raft"],
            path: "Tests/MutationGate",
            exclude: ["MUTATIONS.md", "elsewhere.md"],
            swiftSettings: house
        )
    )
}

// The thread sanitizer's run builds only what drives threads: with KONTIKI_TEST_TARGETS only the named test targets are there, and
// what they need. So it is with planted bugs.
if let named = plantsBugs ? "RaftTests mutation-gate" : sanitizedTargets {
    var wanted = named.split(separator: " ").map(String.init)
    let preloading = ["DiskRecorderTests", "PowerCutTests", "EndToEndTests"]
    if preloading.contains(where: wanted.contains) { wanted.append("DiskRecorder") }
    var kept: Set<String> = []
    while let name = wanted.popLast() {
        guard kept.insert(name).inserted, let target = package.targets.first(where: { $0.name == name }) else {
            continue
        }
        for case .byNameItem(let dependency, _) in target.dependencies { wanted.append(dependency) }
    }
    package.targets.removeAll { !kept.contains($0.name) }
    package.products.removeAll { $0.name != "DiskRecorder" || !kept.contains($0.name) }
}
