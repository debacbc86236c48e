"""The seam: a policy completes prompts and analyzes completions; nothing above knows the architecture."""
