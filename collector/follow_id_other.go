//go:build !unix

package collector

import "io/fs"

// identify knows nothing here: files are told apart by their first bytes.
func identify(fs.FileInfo) fileID { return fileID{} }
