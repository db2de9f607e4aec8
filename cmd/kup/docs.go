package main

import (
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

func (c *command) docs() *cobra.Command {
	return &cobra.Command{
		Use:    "docs DIR",
		Short:  "Write the manual pages and the shells' completion scripts below a directory",
		Hidden: true,
		Args:   takes(1, 1, "a directory"),
		RunE: c.verb(func(cmd *cobra.Command, args []string) error {
			man, completion := filepath.Join(args[0], "man1"), filepath.Join(args[0], "completion")
			for _, dir := range []string{man, completion} {
				if err := os.MkdirAll(dir, 0o755); err != nil {
					return err
				}
			}
			root := cmd.Root()
			root.DisableAutoGenTag = true
			header := &doc.GenManHeader{Title: "KUP", Section: "1", Source: "kup", Manual: "Kernel updates under running applications"}
			if err := doc.GenManTree(root, header, man); err != nil {
				return err
			}
			for name, generate := range map[string]func(string) error{
				"kup.bash": func(path string) error { return root.GenBashCompletionFileV2(path, true) },
				"_kup":     root.GenZshCompletionFile,
				"kup.fish": func(path string) error { return root.GenFishCompletionFile(path, true) },
			} {
				if err := generate(filepath.Join(completion, name)); err != nil {
					return err
				}
			}
			return nil
		}),
	}
}
