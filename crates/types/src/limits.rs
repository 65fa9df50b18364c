//! How large things may be: one entry of the log, what nodes send each other, what a request may
//! hold or repeat, what one table may become.
//!
//! A limit is checked where a request comes in, never where entries are applied, replayed or rows are
//! read: what an earlier version stored above a limit stays readable, and may shrink. `docs/limits.md`
//! lists all of them beside those of S3 and Iceberg.

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;
const GIB: usize = 1 << 30;

/// Groups of a node: the catalog and the object index. Each keeps in memory a share of what the node has
/// for all of them.
pub const GROUPS: usize = 2;

/// Declares limits, and the list of them that the page is compared with.
macro_rules! limits {
    ($($(#[doc = $doc:expr])* $name:ident = $value:expr;)*) => {
        $($(#[doc = $doc])* pub const $name: usize = $value;)*

        /// Every limit by name.
        pub const ALL: &[(&str, usize)] = &[$((stringify!($name), $name)),*];
    };
}

limits! {
    /// Bytes of a command, which is what one entry of the log holds. Half of what fits into a message
    /// between nodes, so that an entry never comes near it; a transaction over 2,000 tables needs
    /// about 4 MiB.
    COMMAND_BYTES = 8 * MIB;
    /// Bytes of a piece of what is written ahead of its command, and of one row of it. Commands of others
    /// wait behind a piece, so it is no larger than what makes the overhead of an entry small.
    PIECE_BYTES = 256 * KIB;
    /// Bytes around a command in an entry, a proposal or an append: ids, terms, the time that a leader
    /// stamps. A thousand times what they take today.
    COMMAND_AROUND_BYTES = 64 * KIB;
    /// Bytes of log entries in one append beside its first entry.
    APPEND_BYTES = MIB;
    /// Bytes of commands of a node between their admission and their outcome, wherever they wait.
    COMMANDS_HELD_BYTES = 64 * MIB;
    /// The same in one group: one that stands still leaves room to the others.
    GROUP_COMMANDS_HELD_BYTES = COMMANDS_HELD_BYTES - COMMANDS_HELD_BYTES / 4;
    /// Bytes of a node's newest log entries that are kept decoded, so that apply and replication read
    /// nothing.
    DECODED_ENTRIES_BYTES = 64 * MIB;
    /// Bytes of a node's newest log records that are kept as they are stored.
    LOG_TAIL_BYTES = 32 * MIB;
    /// Bytes of a body between nodes.
    RPC_BODY_BYTES = 16 * MIB;
    /// Bytes of a frame between nodes: a body and what surrounds it.
    RPC_FRAME_BYTES = RPC_BODY_BYTES + 64 * KIB;
    /// Bytes of the text of a refusal between nodes; longer ones are cut.
    RPC_REASON_BYTES = 4 * KIB;

    /// Bytes of a body that a client sends to the catalog port: four times what one command can take,
    /// because JSON escapes and its member names take more room than rows do.
    REQUEST_BODY_BYTES = 32 * MIB;
    /// Bytes of an XML body on the S3 port; the largest is the list of 10,000 parts (S3: 1 MiB for
    /// most operations).
    XML_BODY_BYTES = 4 * MIB;
    /// Bytes of one signed chunk of an upload, which is held until its signature is checked.
    SIGNED_CHUNK_BYTES = MIB;
    /// Bytes of a body that needs few: a form, or a request that is named by its path and query. All
    /// that is read of who is not known.
    SMALL_BODY_BYTES = 16 * KIB;
    /// Bytes of the XML of a DeleteObjects: a thousand keys with escapes.
    DELETIONS_BODY_BYTES = 3 * MIB;
    /// Bytes of a body with properties or a report in it.
    MEDIUM_BODY_BYTES = MIB;
    /// How often a body's text counts: as it came, as the texts of its members, as what they are taken
    /// apart to, as the table that has them, as its document. A commit of 7 MiB was measured to take 40.
    BODY_COPIES = 5;
    /// Bytes of all bodies that are held in memory at once, and of what becomes of them.
    BODIES_HELD_BYTES = 432 * MIB;
    /// Values in a JSON body, counted by the commas that separate them: 100,000 updates of a few members
    /// each, or 2,000 tables with a snapshot each.
    BODY_VALUES = 500_000;
    /// Bytes that a value in a body counts for: what it may take once it is parsed, at worst.
    VALUE_BYTES = 96;
    /// Tags in an XML body, opening and closing: 10,000 parts with number, ETag and checksum each.
    XML_TAGS = 128 * KIB;
    /// Bytes that a tag in an XML body counts for: an empty part of an upload becomes 300.
    XML_TAG_BYTES = 320;
    /// Header names under one signature. S3 takes 2 KB of user metadata, which is the only thing that
    /// clients sign many of; the rest of a request has about twenty.
    SIGNED_HEADERS = 100;
    /// Bytes of an `Authorization` header, and of each parameter of a presigned URL: a hundred header
    /// names of 40 bytes fit beside the credential.
    AUTHORIZATION_BYTES = 8 * KIB;
    /// Bytes of an access key id: those of root keys, the longest that are given out.
    ACCESS_KEY_BYTES = 128;
    /// Bytes of the region in a credential scope.
    SCOPE_REGION_BYTES = 64;
    /// Bytes of a session token: ours have at most 2 KiB, for a key prefix of 1 KiB.
    SESSION_TOKEN_BYTES = 8 * KIB;
    /// Names and values in a query string; a presigned part of an upload has about fifteen.
    QUERY_FIELDS = 128;

    /// Entries of one page of a listing (S3 and S3 Tables: 1,000).
    PAGE_ITEMS = 1000;
    /// Objects of one DeleteObjects request (S3: 1,000).
    DELETE_OBJECTS = 1000;
    /// Tags of an object (S3: 10).
    TAGS = 10;
    /// Bytes of names and values of an object's own metadata (S3: 2 KB).
    USER_METADATA_BYTES = 2 * KIB;
    /// Bytes of an object's key (S3: 1,024).
    OBJECT_KEY_BYTES = 1024;
    /// Bytes of one PUT or part (S3: 5 GiB).
    PUT_BYTES = 5 * GIB;
    /// Bytes of an object in parts (S3: 5 TiB until 2025, 50 TB since).
    OBJECT_BYTES = 5 * 1024 * GIB;
    /// Parts of an upload (S3: 10,000).
    PARTS = 10_000;

    /// Bytes of a table's or namespace level's name (S3 Tables: 255 characters).
    NAME_BYTES = 255;
    /// Levels of a namespace (S3 Tables: 1; Iceberg has no limit).
    NAMESPACE_LEVELS = 16;
    /// Bytes of the path of a table's location: leaves room for file names below the limit of keys.
    LOCATION_BYTES = 700;

    /// Tables of one transaction: all of them go into one command.
    TRANSACTION_TABLES = 2000;
    /// Updates of one request, over all its tables. Java sends one update for each expired snapshot.
    UPDATES = 100_000;
    /// Requirements of one request, over all its tables: ten for each table of the largest one.
    REQUIREMENTS = 10 * TRANSACTION_TABLES;

    /// Fields of a schema, nested ones included (Trino and Spark become slow at a few thousand).
    SCHEMA_FIELDS = 20_000;
    /// Bytes of a field's name.
    FIELD_NAME_BYTES = 1024;
    /// Bytes of the full names of all fields of a schema: a name counts again for every field below it.
    FIELD_PATHS_BYTES = 16 * MIB;
    /// Schemas of a table.
    SCHEMAS = 10_000;
    /// Source columns of all fields of a partition spec, hence also its fields.
    PARTITION_FIELDS = 1000;
    /// Partition specs of a table.
    PARTITION_SPECS = 10_000;
    /// Source columns of all fields of a sort order, hence also its fields.
    SORT_FIELDS = 1000;
    /// Sort orders of a table.
    SORT_ORDERS = 10_000;
    /// Snapshots of a table.
    SNAPSHOTS = 100_000;
    /// Branches and tags of a table.
    REFS = 10_000;
    /// Properties of a table or namespace.
    PROPERTIES = 10_000;
    /// Bytes of the name of a property, branch or tag.
    PROPERTY_NAME_BYTES = 1024;
    /// Bytes of the value of a property: a name mapping of 20,000 columns fits.
    PROPERTY_VALUE_BYTES = 2 * MIB;
    /// Bytes of all properties of a namespace: every request for one of its tables reads them.
    NAMESPACE_PROPERTIES_BYTES = 256 * KIB;
    /// Bytes of one table's metadata document: 50,000 snapshots as Spark writes them take about 50 MB.
    TABLE_METADATA_BYTES = 64 * MIB;
    /// Bytes of a metadata file that is registered, unpacked. What no command takes is written ahead in
    /// pieces.
    METADATA_FILE_BYTES = 32 * MIB;
    /// Values in such a file, counted by the commas that separate them: as many as Spark's summaries of
    /// 32 MiB of snapshots have.
    METADATA_FILE_VALUES = 1_000_000;
    /// Bytes that a value in such a file counts for beside its text: short properties become 390, fields
    /// of a schema 420 for four of them while they are looked at.
    METADATA_FILE_VALUE_BYTES = 320;
    /// How often such a file's text counts: as read, as members, as items of lists, as parts.
    METADATA_FILE_COPIES = 4;
    /// Bytes of all metadata files that are held in memory at once, and of what becomes of them.
    METADATA_FILES_HELD_BYTES = 576 * MIB;
    /// How often a table's metadata document counts where it is kept or read from its rows: as rows or
    /// rendered, as text, as parts, as what they are taken apart to.
    DOCUMENT_COPIES = 4;
    /// Bytes of memory for the metadata of tables used last.
    HEADS_KEPT_BYTES = 192 * MIB;
    /// Bytes of documents of tables that are read into memory or held for clients who are slow to read
    /// them: of what no cache has, or not any more.
    DOCUMENTS_HELD_BYTES = 320 * MIB;
    /// Bytes of all other answers that are held until clients have read them.
    ANSWERS_HELD_BYTES = 96 * MIB;
    /// An answer of so many bytes is not counted: those of all connections together are bounded.
    ANSWER_UNCOUNTED_BYTES = 64 * KIB;
}

// Each fits into what carries it.
const _: () = assert!(COMMAND_BYTES + COMMAND_AROUND_BYTES <= RPC_BODY_BYTES);
const _: () = assert!(APPEND_BYTES + COMMAND_BYTES + COMMAND_AROUND_BYTES <= RPC_BODY_BYTES);
const _: () = assert!(2 * PIECE_BYTES + MIB <= COMMAND_BYTES / 2);
const _: () = assert!(COMMAND_BYTES + COMMAND_AROUND_BYTES <= GROUP_COMMANDS_HELD_BYTES);
const _: () = assert!(GROUP_COMMANDS_HELD_BYTES + COMMAND_BYTES <= COMMANDS_HELD_BYTES);
const _: () = assert!(COMMANDS_HELD_BYTES <= BODIES_HELD_BYTES);
const _: () = assert!(COMMANDS_HELD_BYTES <= DECODED_ENTRIES_BYTES);
const _: () = assert!(COMMAND_BYTES * GROUPS <= DECODED_ENTRIES_BYTES);
const _: () = assert!(COMMAND_BYTES * GROUPS <= LOG_TAIL_BYTES);
const _: () = assert!(RPC_BODY_BYTES + RPC_REASON_BYTES < RPC_FRAME_BYTES);
const _: () = assert!(RPC_FRAME_BYTES <= REQUEST_BODY_BYTES);
const _: () = assert!(COMMAND_BYTES < REQUEST_BODY_BYTES);
const _: () = assert!(
    2 * (BODY_COPIES * REQUEST_BODY_BYTES + BODY_VALUES * VALUE_BYTES) <= BODIES_HELD_BYTES
);
const _: () = assert!(XML_BODY_BYTES + XML_TAGS * XML_TAG_BYTES <= BODIES_HELD_BYTES / 3);
const _: () = assert!(6 * PARTS < XML_TAGS && 12 * DELETE_OBJECTS < XML_TAGS);
const _: () = assert!(
    DOCUMENT_COPIES * TABLE_METADATA_BYTES <= DOCUMENTS_HELD_BYTES - DOCUMENTS_HELD_BYTES / 6
);
const _: () = assert!(2 * UPDATES <= BODY_VALUES && 50 * TRANSACTION_TABLES <= BODY_VALUES);
const _: () =
    assert!(SMALL_BODY_BYTES < MEDIUM_BODY_BYTES && MEDIUM_BODY_BYTES < REQUEST_BODY_BYTES);
const _: () = assert!(SESSION_TOKEN_BYTES < SMALL_BODY_BYTES);
const _: () = assert!(PROPERTY_NAME_BYTES + PROPERTY_VALUE_BYTES < COMMAND_BYTES);
const _: () = assert!(NAMESPACE_PROPERTIES_BYTES < COMMAND_BYTES / 8);
const _: () = assert!(FIELD_PATHS_BYTES <= TABLE_METADATA_BYTES);
const _: () = assert!(METADATA_FILE_BYTES <= TABLE_METADATA_BYTES);
// The largest file is read as long as a sixth of the budget stays free for small ones.
const _: () = assert!(
    METADATA_FILE_BYTES * METADATA_FILE_COPIES + METADATA_FILE_VALUES * METADATA_FILE_VALUE_BYTES
        <= METADATA_FILES_HELD_BYTES - METADATA_FILES_HELD_BYTES / 6
);
const _: () = assert!(METADATA_FILE_VALUES >= BODY_VALUES);
const _: () = assert!(LOCATION_BYTES < OBJECT_KEY_BYTES);
const _: () = assert!(PUT_BYTES <= OBJECT_BYTES && OBJECT_BYTES <= PUT_BYTES * PARTS);
const _: () = assert!(2 * SNAPSHOTS >= UPDATES && UPDATES >= 50_000);

/// Something has or repeats more than it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {found} are more than the limit of {limit}; {advice}")]
pub struct Exceeded {
    /// What is counted, and in what unit.
    pub what: &'static str,
    /// How many there are, or would be.
    pub found: usize,
    /// How many there may be.
    pub limit: usize,
    /// What to do about it.
    pub advice: &'static str,
}

/// Compares a count with its limit.
///
/// # Errors
/// It is above.
pub const fn check(
    what: &'static str,
    found: usize,
    limit: usize,
    advice: &'static str,
) -> Result<(), Exceeded> {
    if found <= limit {
        return Ok(());
    }
    Err(Exceeded {
        what,
        found,
        limit,
        advice,
    })
}
