package archive

// Limits of the format. docs/backup-format.md and docs/limits.md list them.
const (
	// Format is the number of the format that this package writes and reads.
	Format = 1

	// maxEnvelope bounds a manifest file, in bytes.
	maxEnvelope = 64 << 10
	// maxText bounds a text in a manifest, in bytes.
	maxText = 512
	// maxPeppers and maxKeyVersions bound lists in a manifest.
	maxPeppers     = 128
	maxKeyVersions = 256

	// maxHeader bounds the header of an age file, in bytes. 17 hybrid recipients need 29 KiB.
	maxHeader = 64 << 10
	// maxWindow bounds the window of zstd, in bytes: the memory that decompression needs.
	maxWindow = 8 << 20
	// maxContents bounds manifest.json in the tar stream, in bytes. It is decoded as a whole, which
	// takes many times its size.
	maxContents = 1 << 20
	// maxMember bounds seal.json, in bytes.
	maxMember = 16 << 20
	// maxPart bounds the rows in one member, in bytes.
	maxPart = 8 << 20
	// maxMembers bounds the members with rows, so that their list fits in one member.
	maxMembers = 100_000
	// maxRow bounds the line of one row, in bytes, with its line feed.
	maxRow = 2 << 20
	// maxTables and maxColumns bound what a manifest.json declares.
	maxTables  = 64
	maxColumns = 64

	// maxIdentities bounds a file with identities, in bytes.
	maxIdentities = 64 << 10
)
