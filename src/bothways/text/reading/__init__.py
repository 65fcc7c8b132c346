"""Reading files: from any format to documents, with every line accounted for."""
