"""A model behind HTTP (`imgclf serve`): limits, decoding in processes, batches. Its modules need the extra `serve`."""
